//! A folder with models, texts and plans.

use crate::models::{write_bert, write_gpt2, write_llama, write_other, write_pairs, write_text};
use crate::process::printed;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Blocks of two structures; the first layer's query stays dense.
const PLAN: &str = "\
format = 1

[[rule]]
pattern = 'layer\\.0\\.attention\\.self\\.query'
keep = true

[[rule]]
pattern = 'attention'
structure = \"low-rank:ratio=0.5\"

[[rule]]
pattern = 'intermediate|output|attn|mlp'
structure = \"blast:b=2,ratio=0.5\"
";

pub struct Fixture {
    folder: TempDir,
}

impl Fixture {
    /// `bert`, `gpt2`, `llama`, `other.safetensors`, `lines.txt`, `pairs.csv`, `plan.toml`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_bert(&path("bert"));
        write_gpt2(&path("gpt2"));
        write_llama(&path("llama"));
        write_other(&path("other.safetensors"));
        write_text(&path("lines.txt"), 60);
        write_pairs(&path("pairs.csv"), 20);
        fs::write(path("plan.toml"), PLAN).unwrap();
        Self { folder }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path of a file as an argument.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The arguments that compress `bert` block after block, with some training, to `output`.
    pub fn blockwise(&self, output: &str) -> Vec<String> {
        let options = ["--refine-steps", "4", "--distill-steps", "4"].map(String::from);
        let arguments =
            ["compress", &self.path("bert"), "--plan", &self.path("plan.toml"), "--text", &self.path("lines.txt")];
        let arguments = arguments.map(String::from).into_iter().chain(options);
        arguments.chain(["-o".to_string(), self.path(output)]).collect()
    }

    /// Compresses `model` layer by layer to `output`.
    pub fn compress(&self, model: &str, output: &str) {
        printed(&["compress", &self.path(model), "--plan", &self.path("plan.toml"), "-o", &self.path(output)]);
    }
}

/// The bytes of all files of a folder and those below it, by path.
pub fn bytes_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes_of(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The files of an output that are the same whenever a run is repeated.
pub fn lasting(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files =
        bytes_of(folder).into_iter().map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes));
    files.filter(|(path, _)| path != Path::new("run.json")).collect()
}
