//! Ctrl-C for programs that train.

use burn_structured::train::training::Interrupter;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first Ctrl-C lets the run save its weights, the second one ends it at once.
pub fn stop_on_ctrl_c(interrupter: &Interrupter) -> Result<(), ctrlc::Error> {
    let (interrupter, stopping) = (interrupter.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this batch; press Ctrl-C again to stop at once");
        interrupter.stop(Some("Ctrl-C"));
    })
}
