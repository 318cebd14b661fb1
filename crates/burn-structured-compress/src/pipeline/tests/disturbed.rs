//! Runs that are interrupted, killed or out of space at any moment: what they make in the end is what an undisturbed run makes.

use super::*;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs with observers that break at every event in turn until one run comes to its end.
fn with_interruptions(
    output: &Output,
    every: usize,
    mut run: impl FnMut(&mut Observer<'_>) -> Result<Finished, CompressError>,
) -> Finished {
    for attempt in 0.. {
        let mut left = 1 + every * attempt;
        let found = run(&mut |_: &Event<'_>| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match found {
            Ok(done) => {
                assert!(attempt > 2, "it was interrupted");
                return done;
            }
            Err(error) => {
                assert!(error.to_string().contains("run the same command again"), "{error}");
                assert!(!output.path.exists(), "complete or absent");
            }
        }
    }
    unreachable!("a run ends")
}

#[test]
fn interrupted_layers_are_continued_bit_for_bit() {
    let scene = Scene::new(Dtype::F32);
    let whole = scene.compress(&mixed_plan(), &scene.output("whole")).unwrap();
    let output = scene.output("interrupted");
    let config = LayerwiseConfig::new();
    let done = with_interruptions(&output, 1, |observer| {
        compress_checkpoint(&scene.source, &mixed_plan(), None, &config, &output, &device(), observer)
    });
    assert_eq!(contents(&done.path), contents(&whole.path));
}

#[test]
fn interrupted_blocks_are_continued_bit_for_bit() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let scene = Scene::new(dtype);
        let config = blockwise::config();
        let whole = blockwise::run(&scene, &config, &scene.output("whole"), &mut quiet).unwrap();
        let output = scene.output("interrupted");
        let done = with_interruptions(&output, 7, |observer| blockwise::run(&scene, &config, &output, observer));
        assert_eq!(contents(&done.path), contents(&whole.path));
    }
}

#[test]
fn a_process_killed_while_it_cleaned_up_has_finished() {
    let scene = Scene::new(Dtype::F32);
    let output = scene.output("out");
    let partial = output.partial().unwrap();
    let kept = scene.path("kept");
    // A copy of the run's folder as it is before the output is put together.
    let config = LayerwiseConfig::new();
    let done = compress_checkpoint(&scene.source, &mixed_plan(), None, &config, &output, &device(), &mut |event| {
        if matches!(event, Event::Assemble) {
            fs::create_dir(&kept).unwrap();
            for entry in fs::read_dir(&partial).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
            }
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    fs::rename(&kept, &partial).unwrap();
    let again = scene.compress(&mixed_plan(), &output).unwrap();
    assert_eq!((again.report.run, again.run), (done.report.run, done.run));
    assert!(!partial.exists());
    assert!(scene.compress(&mixed_plan(), &output).unwrap_err().to_string().contains("exists"));
}

#[test]
fn changed_settings_are_refused_by_name() {
    let scene = Scene::new(Dtype::F32);
    let output = scene.output("out");
    let start = |config: &BlockwiseConfig, output: &Output| {
        blockwise::run(&scene, config, output, &mut |event| match event {
            Event::UnitFinished { index: 1, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let config = blockwise::config();
    assert!(start(&config, &output).unwrap_err().to_string().contains("2 of 4 parts"));
    let message = start(&config.clone().with_seed(4), &output).unwrap_err().to_string();
    assert!(message.contains("another seed (0 there, 4 now)"), "{message}");
    let refine = config.refine.clone().map(|refine| refine.with_learning_rate(1e-3));
    let message = start(&config.clone().with_refine(refine), &output).unwrap_err().to_string();
    assert!(message.contains("another settings.refine.learning_rate (0.002 there, 0.001 now)"), "{message}");
    // Layers by themselves are another kind of run.
    let message = scene.compress(&mixed_plan(), &output).unwrap_err().to_string();
    assert!(message.contains("another data") && message.contains("another executor"), "{message}");
    let whole = blockwise::run(&scene, &config, &scene.output("whole"), &mut quiet).unwrap();
    let done = blockwise::run(&scene, &config, &output, &mut quiet).unwrap();
    assert_eq!(contents(&done.path), contents(&whole.path));
}

/// The environment variable that makes [`child`] a run: the kind and the folder, which has the model.
const CHILD: &str = "BURN_STRUCTURED_TEST_RUN";

/// A run in a process of its own.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let (kind, folder) = arguments.split_once(' ').unwrap();
    let folder =
        tempfile::TempDir::with_prefix_in(".scene", folder).map(|temporary| (temporary, PathBuf::from(folder)));
    let (temporary, folder) = folder.unwrap();
    let source = Checkpoint::open(folder.join("model")).unwrap();
    let mut model = Toy::new(3, 5);
    (0..3).for_each(|block| load(&mut model, block, &source).unwrap());
    let output = Output::new(folder.join("out"));
    let scene = Scene { folder: temporary, model, source };
    let found = match kind {
        "layers" => scene.compress(&mixed_plan(), &output),
        _ => blockwise::run(&scene, &blockwise::config(), &output, &mut quiet),
    };
    if let Err(error) = found {
        fs::write(folder.join("error"), error.to_string()).unwrap();
        std::process::exit(3);
    }
}

fn start(kind: &str, folder: &Path, wrapper: &[&str]) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .args(["--exact", "pipeline::tests::disturbed::child", "--nocapture"])
        .env(CHILD, format!("{kind} {}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn killed_processes_are_continued_bit_for_bit() {
    for kind in ["layers", "blocks"] {
        let scene = Scene::new(Dtype::F32);
        let whole = match kind {
            "layers" => scene.compress(&mixed_plan(), &scene.output("whole")).unwrap(),
            _ => blockwise::run(&scene, &blockwise::config(), &scene.output("whole"), &mut quiet).unwrap(),
        };
        // How long a run takes as a process of its own.
        let folder = scene.path("timed");
        fs::create_dir(&folder).unwrap();
        write_model(&folder.join("model"), &Toy::new(3, 5), Dtype::F32);
        let began = Instant::now();
        assert!(start(kind, &folder, &[]).wait().unwrap().success());
        let whole_time = began.elapsed();

        let folder = scene.path("killed");
        fs::create_dir(&folder).unwrap();
        write_model(&folder.join("model"), &Toy::new(3, 5), Dtype::F32);
        // A deterministic sequence of moments, the whole run in each few of them.
        let mut moment = 0.37f64;
        for _ in 0..10 {
            let mut process = start(kind, &folder, &[]);
            moment = (moment * 7.31 + 0.17).fract();
            std::thread::sleep(whole_time.mul_f64(moment).max(Duration::from_millis(5)));
            process.kill().unwrap();
            process.wait().unwrap();
            if folder.join("out").exists() {
                break;
            }
        }
        if !folder.join("out").exists() || folder.join("out.partial").exists() {
            assert!(
                start(kind, &folder, &[]).wait().unwrap().success(),
                "{:?}",
                fs::read_to_string(folder.join("error"))
            );
        }
        assert_eq!(contents(&folder.join("out")), contents(&whole.path), "{kind}");
        assert!(!folder.join("out.partial").exists());
    }
}

#[test]
fn two_processes_do_not_disturb_each_other() {
    let scene = Scene::new(Dtype::F32);
    let whole = blockwise::run(&scene, &blockwise::config(), &scene.output("whole"), &mut quiet).unwrap();
    let folder = scene.path("both");
    fs::create_dir(&folder).unwrap();
    write_model(&folder.join("model"), &Toy::new(3, 5), Dtype::F32);
    let processes: Vec<Child> = (0..3).map(|_| start("blocks", &folder, &[])).collect();
    let codes: Vec<Option<i32>> = processes.into_iter().map(|mut process| process.wait().unwrap().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(3)).count(), 2, "{codes:?}");
    let error = fs::read_to_string(folder.join("error")).unwrap();
    assert!(error.contains("in use by another run") || error.contains("exists"), "{error}");
    assert_eq!(contents(&folder.join("out")), contents(&whole.path));
}

/// A limit on the size of files stands for a full disk: writing fails half-way through a file.
#[cfg(target_os = "linux")]
#[test]
fn a_run_out_of_space_is_continued() {
    let scene = Scene::new(Dtype::F32);
    let whole = scene.compress(&mixed_plan(), &scene.output("whole")).unwrap();
    let folder = scene.path("full");
    fs::create_dir(&folder).unwrap();
    write_model(&folder.join("model"), &Toy::new(3, 5), Dtype::F32);
    // In blocks of 512 or 1024 bytes: shards fit, the model does not; then the manifest does not.
    for limit in ["12", "1"] {
        let limited = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
        let code = start("layers", &folder, &["sh", "-c", &limited]).wait().unwrap().code();
        assert_eq!(code, Some(3));
        let error = fs::read_to_string(folder.join("error")).unwrap();
        assert!(error.starts_with("cannot write ") && error.contains("free some space"), "{error}");
        assert!(!folder.join("out").exists());
    }
    assert!(start("layers", &folder, &[]).wait().unwrap().success());
    assert_eq!(contents(&folder.join("out")), contents(&whole.path));
}
