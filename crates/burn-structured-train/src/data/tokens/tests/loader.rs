//! Training and evaluation windows.

use super::*;
use burn::data::dataloader::DataLoader;
use burn::data::dataloader::split::split_dataloader;
use std::collections::HashSet;
use std::sync::Arc;

/// 6 rows of 8 tokens, 5 steps an epoch.
fn config() -> TokenWindowsConfig {
    TokenWindowsConfig::new(1000, 8, 6, 5)
}

fn loader(config: &TokenWindowsConfig) -> Arc<dyn DataLoader<TokenBatch>> {
    Arc::new(config.try_init(counted(1000), &Device::flex()).unwrap())
}

/// The inputs of every step of the next epoch.
fn epoch(loader: &dyn DataLoader<TokenBatch>) -> Vec<Vec<Vec<u32>>> {
    let mut batches = loader.iter();
    let mut inputs = Vec::new();
    while let Some(batch) = batches.next() {
        inputs.push(rows(batch.unwrap().inputs));
        assert_eq!(batches.progress().items_processed * 5, loader.num_items() * inputs.len());
    }
    assert!(batches.progress().is_completed());
    inputs
}

#[test]
fn targets_are_the_next_tokens() {
    let loader = loader(&config());
    assert_eq!(loader.num_items(), 30);
    for batch in loader.iter() {
        let TokenBatch { inputs, targets } = batch.unwrap();
        assert_eq!((inputs.dims(), targets.dims()), ([6, 8], [6, 8]));
        for (inputs, targets) in rows(inputs).into_iter().zip(rows(targets)) {
            assert!(inputs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{inputs:?}");
            assert_eq!(inputs[1..], targets[..7]);
            assert_eq!(targets[7], inputs[7] + 1);
        }
    }
}

#[test]
fn epochs_continue_from_any_start() {
    let whole = loader(&config());
    let epochs: Vec<_> = (0..4).map(|_| epoch(&*whole)).collect();
    let different: HashSet<_> = epochs.iter().flatten().collect();
    assert_eq!(different.len(), 20);
    for start in 0..4 {
        let resumed = loader(&config().with_epoch(start));
        for expected in &epochs[start..] {
            assert_eq!(&epoch(&*resumed), expected, "from epoch {start}");
        }
    }
}

#[test]
fn steps_do_not_depend_on_the_length_of_an_epoch() {
    let short = loader(&config());
    let steps: Vec<_> = (0..4).flat_map(|_| epoch(&*short)).collect();
    let long = TokenWindowsConfig { steps: 10, ..config() };
    let batches: Vec<_> = loader(&long).iter().map(|batch| rows(batch.unwrap().inputs)).collect();
    assert_eq!(batches, steps[..10]);
}

#[test]
fn seeds_give_different_windows() {
    let [first, second] = [1, 2].map(|seed| epoch(&*loader(&config().with_seed(seed))));
    assert_ne!(first, second);
    assert_eq!(first, epoch(&*loader(&config().with_seed(1))));
}

#[test]
fn devices_share_the_rows_of_every_step() {
    let whole = loader(&config().with_epoch(2));
    let expected = [epoch(&*whole), epoch(&*whole)];
    for devices in [2, 3, 4, 6] {
        let split = split_dataloader(loader(&config().with_epoch(2)), &vec![Device::flex(); devices]);
        for expected in &expected {
            let parts: Vec<_> = split.iter().map(|part| epoch(&**part)).collect();
            let joined: Vec<Vec<_>> =
                (0..5).map(|step| parts.iter().flat_map(|part| part[step].clone()).collect()).collect();
            assert_eq!(&joined, expected, "{devices} devices");
        }
    }
}

#[test]
fn slices_of_slices_count_from_the_whole() {
    let whole = epoch(&*loader(&config()));
    // Rows 1 to 4, and of these the last two.
    let slice = loader(&config()).slice(5, 25);
    assert_eq!(slice.num_items(), 20);
    let inner = slice.slice(10, 20).to_device(&Device::flex());
    let expected: Vec<_> = whole.iter().map(|rows| rows[3..5].to_vec()).collect();
    assert_eq!(epoch(&*inner), expected);
    // The epochs of the slice are its own.
    let expected: Vec<_> = whole.iter().map(|rows| rows[1..5].to_vec()).collect();
    assert_eq!(epoch(&*slice), expected);
    assert_eq!(slice.slice(3, 4).iter().count(), 0);
}

#[test]
fn windows_reach_from_the_first_to_the_last_token() {
    let config = TokenWindowsConfig::new(20, 8, 50, 20);
    let loader = config.try_init(counted(20), &Device::flex()).unwrap();
    let mut counts = [0; 12];
    for batch in loader.iter() {
        rows(batch.unwrap().inputs).iter().for_each(|row| counts[row[0] as usize] += 1);
    }
    // 1000 draws from 12 positions: 83 of each on average, with a standard deviation of 9.
    assert!(counts.iter().all(|count| (40..130).contains(count)), "{counts:?}");
    let config = TokenWindowsConfig::new(9, 8, 2, 1);
    let batch = config.try_init(counted(9), &Device::flex()).unwrap().iter().next().unwrap().unwrap();
    assert_eq!(rows(batch.inputs), [[0, 1, 2, 3, 4, 5, 6, 7]; 2]);
}

#[test]
fn unusable_windows_are_errors() {
    let error = |config: TokenWindowsConfig| message(config.try_init(counted(8), &Device::flex()));
    let expected = "the token list has 8 tokens, but at least 9 are needed; add text, or choose a shorter context";
    assert_eq!(error(config()), expected);
    for (config, name) in [
        (TokenWindowsConfig::new(8, 0, 1, 1), "context"),
        (TokenWindowsConfig::new(8, 4, 0, 1), "batch size"),
        (TokenWindowsConfig::new(8, 4, 1, 0), "steps"),
    ] {
        assert_eq!(error(config), format!("{name} = 0 is not usable; give at least 1"));
    }
    let config = TokenWindowsConfig::new(7, 7, 1, 1);
    let loader = config.try_init(counted(8), &Device::flex()).unwrap();
    let error = loader.iter().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("token 7 at position 7 is not in the vocabulary of 7"), "{error}");
}

#[test]
fn evaluation_scores_every_token_once() {
    for (tokens, context) in [(2, 8), (8, 8), (9, 8), (10, 8), (57, 8), (64, 8), (65, 8), (100, 1), (30, 29)] {
        for stride in 1..=context {
            for batch_size in [1, 3, 100] {
                let windows = EvaluationWindows::new(counted(tokens), 1000, context, stride, batch_size).unwrap();
                let mut scored = Vec::new();
                let mut count = 0;
                for batch in windows.batches(&Device::flex()) {
                    let EvaluationBatch { inputs, targets } = batch.unwrap();
                    let [size, length] = inputs.dims();
                    assert!(size <= batch_size && length == context.min(tokens as usize - 1));
                    count += size;
                    for (inputs, targets) in rows(inputs).into_iter().zip(rows(targets)) {
                        // The last target follows the last input.
                        assert_eq!(targets.last(), Some(&(inputs[length - 1] + 1)));
                        // All but the first window see as much before the first scored token as the stride leaves.
                        assert!(scored.is_empty() || targets.len() <= stride);
                        scored.extend(targets);
                    }
                }
                let case = format!("{tokens} tokens, context {context}, stride {stride}, batches of {batch_size}");
                assert_eq!(scored, (1..tokens).collect::<Vec<_>>(), "{case}");
                assert_eq!((windows.scored(), windows.windows()), (scored.len(), count), "{case}");
            }
        }
    }
}

#[test]
fn evaluation_windows_of_a_batch_score_alike() {
    let windows = EvaluationWindows::new(counted(12), 1000, 5, 2, 2).unwrap();
    let batches: Vec<_> = windows.batches(&Device::flex()).map(Result::unwrap).collect();
    let found: Vec<_> = batches.into_iter().map(|batch| (rows(batch.inputs), rows(batch.targets))).collect();
    let expected = [
        (vec![vec![0, 1, 2, 3, 4]], vec![vec![1, 2, 3, 4, 5]]),
        (vec![vec![2, 3, 4, 5, 6], vec![4, 5, 6, 7, 8]], vec![vec![6, 7], vec![8, 9]]),
        (vec![vec![6, 7, 8, 9, 10]], vec![vec![10, 11]]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn unusable_evaluation_windows_are_errors() {
    let error =
        |tokens, context, stride, batch| message(EvaluationWindows::new(counted(tokens), 1000, context, stride, batch));
    assert!(error(10, 0, 1, 1).starts_with("context = 0 is not usable"));
    assert!(error(10, 4, 1, 0).starts_with("batch size = 0 is not usable"));
    assert!(error(10, 4, 0, 1).starts_with("stride = 0 is not usable; give at least 1 and at most the context"));
    assert!(error(10, 4, 5, 1).starts_with("stride = 5 is not usable"));
    assert!(error(1, 4, 4, 1).starts_with("the token list has 1 tokens, but at least 2 are needed"));
    let windows = EvaluationWindows::new(counted(10), 9, 4, 4, 8).unwrap();
    assert!(windows.batches(&Device::flex()).any(|batch| batch.is_err()));
}
