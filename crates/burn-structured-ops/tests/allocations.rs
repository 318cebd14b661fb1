//! What products on Flex allocate: their output, and next to nothing else.
//!
//! Fresh memory has to be mapped and cleared page by page, which takes as long as a small product. So scratch is kept by the threads.
//! A test of its own process, as it counts what all threads allocate.

use burn::tensor::{Device, Distribution, Tensor};
use burn_structured_ops::attention::{AttentionMask, self_attention};
use burn_structured_ops::block_diagonal::{Order, Orders, block_diagonal_linear};
use burn_structured_ops::ss1::{Fold, Rotations, ss1_linear};
use burn_structured_ops::{blast_linear, low_rank::low_rank_linear};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size.saturating_sub(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes for what is neither output nor scratch: tensors' shapes, lists of tasks, messages to threads.
const SMALL: usize = 64 << 10;
/// Calls until every thread has had every task, and has its scratch.
const CALLS: usize = 40;

type Product<'a> = &'a dyn Fn() -> Tensor<2>;

/// The fewest bytes that a call of `product` allocates beside its output, of several calls: whichever threads take part, none of
/// them is new to it in all.
fn beside_output(product: impl Fn() -> Tensor<2>) -> usize {
    let calls = (0..CALLS).map(|_| {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let output = product();
        let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
        bytes.saturating_sub(output.shape().num_elements() * size_of::<f32>())
    });
    calls.min().expect("a call")
}

#[test]
fn products_allocate_their_output_and_next_to_nothing_else() {
    let device = Device::flex();
    let normal = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let matrix = |rows: usize, cols: usize| normal([1, rows, cols]).squeeze_dim::<2>(0);
    let (n, m) = (384, 1536);
    let (u, s, v) = (normal([4, m / 4, 96]), normal([4, 4, 96]), normal([4, n / 4, 96]));
    let (narrow, wide, blocks) = (matrix(n, 64), matrix(64, m), normal([16, m / 16, n / 16]));
    let fold =
        Fold { d_input: n, reduction: 4, block_k: 16, block_n: 16, rotations: Rotations::Arithmetic { step: 3 } };
    let z = matrix(fold.width(), m);
    let dealt = Orders { input: Order::Strided, output: Order::Strided };
    for tokens in [1, 5, 8, 64, 512] {
        let x = matrix(tokens, n);
        let qkv = normal([tokens, 18, 64]).unsqueeze::<4>();
        // What is handed from one stage to the next as a tensor of its own.
        let [sketch, between] = [fold.width(), 64].map(|width| tokens * width * size_of::<f32>());
        // Few tokens are left to Burn's own product, which does as it likes.
        let dense = |between: usize| (tokens >= 6).then_some(between);
        let attend = || self_attention(qkv.clone(), AttentionMask::causal()).reshape([tokens, n]);
        let products: [(&str, Option<usize>, Product<'_>); 6] = [
            ("attention", Some(0), &attend),
            ("BLAST", Some(0), &|| blast_linear(x.clone(), u.clone(), s.clone(), v.clone(), None)),
            ("low rank", dense(between), &|| low_rank_linear(x.clone(), narrow.clone(), wide.clone(), None)),
            ("SS1", dense(sketch), &|| ss1_linear(x.clone(), z.clone(), None, fold)),
            ("block-diagonal", Some(0), &|| block_diagonal_linear(x.clone(), blocks.clone(), None, Orders::default())),
            ("dealt", Some(0), &|| block_diagonal_linear(x.clone(), blocks.clone(), None, dealt)),
        ];
        for (name, handed_on, product) in products {
            let Some(handed_on) = handed_on else { continue };
            let bytes = beside_output(product);
            assert!(bytes <= handed_on + SMALL, "{name}, {tokens} tokens: {bytes} bytes beside the output");
        }
    }
}
