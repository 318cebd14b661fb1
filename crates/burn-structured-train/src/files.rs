//! What killed processes leave of files that Burn writes; see `burn_structured_checkpoint::files` for those that are written here.

use std::fs;
use std::io;
use std::path::Path;

/// Removes the files in `folder` that a Burn store or a killed process left there; `ours` is given their names.
pub(crate) fn remove_scratch_files(folder: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let scratch = name.to_str().is_some_and(|name| name.ends_with(".tmp") && ours(name));
        if scratch && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if scratch {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
