//! The cache with several numbers of heads.

use super::{random_model, tiny};
use crate::decoder::Decoder;
use crate::decoder::testing::random_tokens;
use burn::tensor::{Device, Tolerance};

#[test]
fn cache_holds_the_keys_and_values_of_their_own_heads() {
    let device = Device::flex();
    for (kv_heads, d_head) in [(2, 0), (1, 6), (4, 0)] {
        // Longer than the cache's first size, so that it grows.
        let config = tiny().with_context(150).with_kv_heads(kv_heads).with_d_head(d_head);
        let model = random_model(&config, &device);
        let tokens = random_tokens(2, 80, 17, &device);
        let expected = model.forward(tokens.clone());
        let mut cache = model.cache(150);
        for (start, new) in [(0, 6), (6, 1), (7, 1), (8, 60), (68, 1)] {
            let found = model.forward_cached(tokens.clone().narrow(1, start, new), &mut cache).unwrap();
            let expected = expected.clone().narrow(1, start + new - 1, 1).into_data();
            found.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(2e-4));
        }
        assert_eq!((cache.len(), cache.capacity()), (69, 150));
    }
}
