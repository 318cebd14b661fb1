//! A text in windows of one length.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// A text cut into windows of `length` tokens, one after another, in batches `[up to batch_size, length]`; what is left at its end
/// is a batch of its own, so that a short text gives one shorter window.
///
/// # Panics
///
/// If `length` or `batch_size` is 0.
pub fn windows(tokens: &[u32], length: usize, batch_size: usize, device: &Device) -> Vec<Tensor<2, Int>> {
    assert!(length > 0 && batch_size > 0, "a batch holds at least one window of at least one token");
    let (whole, rest) = tokens.split_at(tokens.len() - tokens.len() % length);
    let batch = |tokens: &[u32], length: usize| {
        let ids: Vec<i64> = tokens.iter().map(|id| i64::from(*id)).collect();
        Tensor::from_data(TensorData::new(ids, [tokens.len() / length, length]), device)
    };
    let batches = whole.chunks(length.saturating_mul(batch_size)).map(|tokens| batch(tokens, length));
    let rest = (!rest.is_empty()).then(|| batch(rest, rest.len()));
    batches.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_token_once() {
        let tokens: Vec<u32> = (0..17).collect();
        for (length, batch_size, shapes) in [
            (3, 2, vec![[2, 3], [2, 3], [1, 3], [1, 2]]),
            (17, 4, vec![[1, 17]]),
            (20, 4, vec![[1, 17]]),
            (4, 8, vec![[4, 4], [1, 1]]),
        ] {
            let windows = windows(&tokens, length, batch_size, &Device::flex());
            assert_eq!(windows.iter().map(Tensor::dims).collect::<Vec<_>>(), shapes);
            let found = windows.into_iter().flat_map(|batch| batch.into_data().iter::<i64>().collect::<Vec<_>>());
            assert_eq!(found.collect::<Vec<_>>(), (0..17).collect::<Vec<i64>>());
        }
        assert!(windows(&[], 3, 2, &Device::flex()).is_empty());
    }
}
