//! SS1 products.

use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend, public_devices};
use crate::rounding::assert_close;
use crate::tensors::{Layout, ReferenceFile, draw, place, read, reference_files};
use burn::backend::Autodiff;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::OptionalTensor;
use burn_structured_ops::ss1::{
    Fold, Rotations, Ss1Backend, Ss1Strategy, ss1_from_dense, ss1_linear, ss1_linear_with, ss1_to_dense,
};

const SIGNED: Rotations = Rotations::Drawn { seed: 3, signs: true };
const UNSIGNED: Rotations = Rotations::Drawn { seed: 4, signs: false };
const ARITHMETIC: Rotations = Rotations::Arithmetic { step: 5 };

/// `(tokens, d_output, fold)`: one token, partly empty groups and blocks, odd sizes, output blocks around a tile's width.
fn cases() -> Vec<(usize, usize, Fold)> {
    [
        (1, 4, 8, 2, 4, 2, SIGNED),
        (5, 33, 40, 4, 8, 16, SIGNED),
        (3, 5, 7, 2, 3, 2, ARITHMETIC),
        (17, 70, 97, 3, 16, 64, UNSIGNED),
        (130, 48, 64, 8, 8, 17, SIGNED),
        (9, 130, 126, 5, 7, 128, SIGNED),
        (33, 20, 64, 1, 16, 20, ARITHMETIC),
    ]
    .into_iter()
    .map(|(tokens, d_output, d_input, reduction, block_k, block_n, rotations)| {
        (tokens, d_output, Fold { d_input, reduction, block_k, block_n, rotations })
    })
    .collect()
}

struct Case {
    tokens: usize,
    d_output: usize,
    fold: Fold,
    x: Vec<f64>,
    z: Vec<f64>,
    g: Vec<f64>,
}

/// Values and, for each, the sum of the absolute values of its terms.
type Bounded = (Vec<f64>, Vec<f64>);

struct Expected {
    y: Bounded,
    dx: Bounded,
    dz: Bounded,
}

impl Case {
    fn new(tokens: usize, d_output: usize, fold: Fold) -> Self {
        let (x, z) = (draw(tokens * fold.d_input, 1), draw(fold.width() * d_output, 2));
        Self { tokens, d_output, fold, x, z, g: draw(tokens * d_output, 3) }
    }

    fn repeat_first_token(mut self) -> Self {
        self.x = self.x[..self.fold.d_input].repeat(self.tokens);
        self
    }

    /// Straight from the definition, weight by weight.
    fn expected(&self) -> Expected {
        let (n, m, width) = (self.fold.d_input, self.d_output, self.fold.width());
        let zeros = |len: usize| (vec![0.0; len], vec![0.0; len]);
        let mut expected = Expected { y: zeros(self.tokens * m), dx: zeros(self.tokens * n), dz: zeros(width * m) };
        let add = |sum: &mut Bounded, index: usize, term: f64| {
            sum.0[index] += term;
            sum.1[index] += term.abs();
        };
        for block in 0..self.fold.output_blocks(m) {
            let sources = self.fold.sources(block);
            for o in self.fold.output_rows(m, block) {
                for (feature, (stored, negative)) in sources.iter().enumerate() {
                    let sign = if *negative { -1.0 } else { 1.0 };
                    let weight = sign * self.z[stored * m + o];
                    for token in 0..self.tokens {
                        let (x, g) = (self.x[token * n + feature], self.g[token * m + o]);
                        add(&mut expected.y, token * m + o, weight * x);
                        add(&mut expected.dx, token * n + feature, weight * g);
                        add(&mut expected.dz, stored * m + o, sign * x * g);
                    }
                }
            }
        }
        expected
    }
}

/// `y` and the gradients of `sum(y * g)` with respect to `x` (unless broadcast) and `z`.
fn forward_backward<B: StructuredBackend>(
    case: &Case,
    dtype: DType,
    layout: Layout,
    strategy: Ss1Strategy,
    device: &B::Device,
) -> (Vec<f64>, Option<Vec<f64>>, Vec<f64>) {
    type Ad<B> = Autodiff<B, NoCheckpointing>;
    let Case { tokens, d_output, fold, x, z, g } = case;
    let leaf = |values: &[f64], shape: &[usize]| -> FloatTensor<Ad<B>> {
        <Ad<B> as burn::backend::AutodiffBackend>::from_inner(place::<B>(values, shape, dtype, layout, device))
    };
    let x = if layout == Layout::Broadcast {
        let row = leaf(&x[..fold.d_input], &[1, fold.d_input]);
        Ad::<B>::float_expand(row, [*tokens, fold.d_input].into())
    } else {
        Ad::<B>::float_set_require_grad(leaf(x, &[*tokens, fold.d_input]), true)
    };
    let z = Ad::<B>::float_set_require_grad(leaf(z, &[fold.width(), *d_output]), true);
    let y = Ad::<B>::ss1_product(x.clone(), z.clone(), OptionalTensor::None.into(), *fold, strategy);
    let output = read::<B>(y.clone().into_primitive());
    let grads = Ad::<B>::float_mul(y, leaf(g, &[*tokens, *d_output])).backward();
    (output, x.grad(&grads).map(read::<B>), read::<B>(z.grad(&grads).expect("a gradient")))
}

fn check<B: StructuredBackend>(
    backend: &TestBackend<B>,
    case: &Case,
    dtype: DType,
    layout: Layout,
    strategy: Ss1Strategy,
) {
    let what =
        format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {} tokens, {:?}", backend.name, case.tokens, case.fold);
    let expected = case.expected();
    let (y, dx, dz) = forward_backward::<B>(case, dtype, layout, strategy, &backend.device);
    let (n, m, tokens) = (case.fold.d_input, case.d_output, case.tokens);
    // The plain body sums per block of rows and keeps a rounded sketch; the bounds count one rounding for every term.
    assert_close(&format!("{what}: y"), dtype, n, &y, &expected.y.0, &expected.y.1);
    if let Some(dx) = &dx {
        assert_close(&format!("{what}: dx"), dtype, 2 * m, dx, &expected.dx.0, &expected.dx.1);
    }
    assert_eq!(dx.is_some(), layout != Layout::Broadcast, "{what}");
    let length = tokens + case.fold.reduction;
    assert_close(&format!("{what}: dz"), dtype, length, &dz, &expected.dz.0, &expected.dz.1);
}

struct EveryFold;

impl BackendTest for EveryFold {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for dtype in backend.dtypes() {
            for (index, (tokens, d_output, fold)) in cases().into_iter().enumerate() {
                let worthwhile = match (backend.scope, dtype) {
                    (Scope::Native, _) => true,
                    (Scope::Kernels, DType::F32) => [1, 2, 4].contains(&index),
                    _ => index == 1,
                };
                let strategies = match backend.scope {
                    // What a backend does with a whole product; the sketch is tested alone, and with the public function.
                    Scope::Native => &[Ss1Strategy::Fused, Ss1Strategy::Reference][..],
                    _ => &[Ss1Strategy::Fused],
                };
                for strategy in strategies.iter().filter(|_| worthwhile) {
                    check(backend, &Case::new(tokens, d_output, fold), dtype, Layout::Contiguous, *strategy);
                }
            }
        }
    }
}

#[test]
fn every_fold_matches_the_reference() {
    every_backend(&EveryFold);
}

struct EveryLayout;

impl BackendTest for EveryLayout {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let (tokens, d_output, fold) = cases()[1];
        for layout in [Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
            let case = Case::new(tokens, d_output, fold);
            let case = if layout == Layout::Broadcast { case.repeat_first_token() } else { case };
            check(backend, &case, DType::F32, layout, Ss1Strategy::Fused);
        }
    }
}

#[test]
fn strided_operands_match_the_reference() {
    every_backend(&EveryLayout);
}

struct FoldAlone;

impl BackendTest for FoldAlone {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        type Ad<B> = Autodiff<B, NoCheckpointing>;
        for (tokens, _, fold) in [cases()[2], cases()[1]] {
            let (n, width) = (fold.d_input, fold.width());
            let sources = fold.sources(1);
            let upload = |values: &[f64], cols: usize| -> FloatTensor<Ad<B>> {
                let tensor = place::<B>(values, &[tokens, cols], DType::F32, Layout::Permuted, &backend.device);
                <Ad<B> as burn::backend::AutodiffBackend>::from_inner(tensor)
            };
            let (x, g) = (draw(tokens * n, 5), draw(tokens * width, 6));
            let (mut folded, mut unfolded) = (vec![0.0; tokens * width], vec![0.0; tokens * n]);
            for token in 0..tokens {
                for (feature, (stored, negative)) in sources.iter().enumerate() {
                    let sign = if *negative { -1.0 } else { 1.0 };
                    folded[token * width + stored] += sign * x[token * n + feature];
                    unfolded[token * n + feature] = sign * g[token * width + stored];
                }
            }
            let input = Ad::<B>::float_set_require_grad(upload(&x, n), true);
            let sketch = Ad::<B>::ss1_fold(input.clone(), fold, 1);
            // Multiples of 1/16, a few of which are added: exact.
            assert_eq!(read::<B>(sketch.clone().into_primitive()), folded, "{}", backend.name);
            let grads = Ad::<B>::float_mul(sketch, upload(&g, width)).backward();
            assert_eq!(read::<B>(input.grad(&grads).expect("a gradient")), unfolded, "{}", backend.name);
        }
    }
}

#[test]
fn fold_and_unfold_match_the_definition() {
    every_backend(&FoldAlone);
}

/// A reference in the authors' layout: every stored block rotated by `(r3 + r2 nb + r1 (g + 1) + r0 (j + 1)) · vec`.
struct Reference<'a> {
    file: &'a ReferenceFile,
    fold: Fold,
    constants: [usize; 4],
    block_n: usize,
    vec: usize,
}

impl<'a> Reference<'a> {
    fn new(file: &'a ReferenceFile) -> Self {
        let number = |name: &str| file.setting(name).parse::<usize>().expect("a number");
        let constants = file.setting("hash");
        let constants: Vec<usize> = constants
            .trim_matches(['[', ']'])
            .split(',')
            .map(|constant| constant.trim().parse().expect("a number"))
            .collect();
        let (block_k, vec) = (number("block_k"), number("vec"));
        let constants: [usize; 4] = constants.try_into().expect("four constants");
        let rotations = Rotations::Arithmetic { step: (constants[3] * vec % block_k) as u32 };
        let [d_output, d_input] = file.tensor("weight").0.try_into().expect("a matrix");
        let fold = Fold { d_input, reduction: number("reduction"), block_k, block_n: d_output, rotations };
        Self { file, fold, constants, block_n: number("block_n"), vec }
    }

    /// A stored tensor `[m, w]` as `[w, m]`, the rotation of each group's first block undone.
    fn unrotated(&self, name: &str) -> (Vec<f64>, [usize; 2]) {
        let (shape, values) = self.file.tensor(name);
        let (m, width, k) = (shape[0], shape[1], self.fold.block_k);
        let [r3, r2, r1, r0] = self.constants;
        let mut stored = vec![0.0; width * m];
        for o in 0..m {
            for position in 0..width {
                let (group, q) = (position / k, position % k);
                let shift = (r3 + r2 * (o / self.block_n) + r1 * (group + 1) + r0) * self.vec % k;
                stored[position * m + o] = values[o * width + group * k + (q + k - shift) % k];
            }
        }
        (stored, [width, m])
    }
}

struct EveryFixture(Vec<ReferenceFile>);

impl BackendTest for EveryFixture {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for file in &self.0 {
            let reference = Reference::new(file);
            for dtype in backend.dtypes().into_iter().filter(|dtype| [DType::F64, DType::F32].contains(dtype)) {
                for layout in [Layout::Contiguous, Layout::Permuted] {
                    if backend.scope == Scope::Fused && layout == Layout::Permuted {
                        continue;
                    }
                    let (z, [_, d_output]) = reference.unrotated("z");
                    let ((shape, x), (_, g)) = (file.tensor("x"), file.tensor("g"));
                    let case = Case { tokens: shape[0], d_output, fold: reference.fold, x, z, g };
                    let magnitudes = case.expected();
                    let (y, dx, dz) = forward_backward::<B>(&case, dtype, layout, Ss1Strategy::Fused, &backend.device);
                    let (_, bias) = file.tensor("bias");
                    let (_, expected) = file.tensor("y");
                    let y: Vec<f64> = y.iter().enumerate().map(|(index, y)| y + bias[index % d_output]).collect();
                    let expected_dz = reference.unrotated("dz").0;
                    for (name, actual, expected, magnitude) in [
                        ("y", y, expected, magnitudes.y.1),
                        ("dx", dx.expect("a gradient"), file.tensor("dx").1, magnitudes.dx.1),
                        ("dz", dz, expected_dz, magnitudes.dz.1),
                    ] {
                        let what = format!("{}, {}, {dtype:?}, {layout:?}: {name}", backend.name, file.name);
                        for ((actual, expected), magnitude) in actual.iter().zip(&expected).zip(&magnitude) {
                            // In f32 every operand is rounded as well: two more roundings of each term.
                            let terms = (case.tokens + case.fold.d_input + d_output + 4) as f64;
                            let f32_bound = terms * f32::EPSILON as f64 * magnitude;
                            let bound = if dtype == DType::F64 { 1e-10 } else { f32_bound };
                            assert!((actual - expected).abs() <= bound, "{what}: {actual} instead of {expected}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_fixture_is_reproduced() {
    every_backend(&EveryFixture(reference_files("ss1")));
}

#[test]
fn projections_are_those_of_the_fixtures() {
    for file in reference_files("ss1") {
        let reference = Reference::new(&file);
        let device = (&Device::flex(), DType::F64);
        let (shape, dense) = file.tensor("dense");
        let dense = Tensor::<2>::from_data(TensorData::new(dense, shape), device);
        let projected = ss1_from_dense(dense, reference.fold).into_data().try_into_vec::<f64>().unwrap();
        let (expected, _) = reference.unrotated("projected");
        for (actual, expected) in projected.iter().zip(&expected) {
            assert!((actual - expected).abs() < 1e-12, "{}: {actual} instead of {expected}", file.name);
        }
        let (z, shape) = reference.unrotated("z");
        let weight = ss1_to_dense(Tensor::from_data(TensorData::new(z, shape), device), reference.fold);
        assert_eq!(weight.into_data().try_into_vec::<f64>().unwrap(), file.tensor("weight").1, "{}", file.name);
    }
}

#[test]
fn a_tied_matrix_is_its_own_projection() {
    for (_, d_output, fold) in cases() {
        let device = (&Device::flex(), DType::F64);
        let dense =
            Tensor::<2>::from_data(TensorData::new(draw(d_output * fold.d_input, 8), [d_output, fold.d_input]), device);
        let z = ss1_from_dense(dense, fold);
        let again = ss1_from_dense(ss1_to_dense(z.clone(), fold), fold);
        let error = (again - z).abs().max().into_scalar::<f64>();
        assert!(error < 1e-15, "{fold:?}: {error}");
    }
}

#[test]
fn product_matches_to_dense() {
    for (tokens, d_output, fold) in cases() {
        let device = (&Device::flex(), DType::F64);
        let case = Case::new(tokens, d_output, fold);
        let x = Tensor::<2>::from_data(TensorData::new(case.x, [tokens, fold.d_input]), device);
        let z = Tensor::<2>::from_data(TensorData::new(case.z, [fold.width(), d_output]), device);
        let bias = Tensor::<1>::from_data(TensorData::new(draw(d_output, 9), [d_output]), device);
        let expected = x.clone().matmul(ss1_to_dense(z.clone(), fold).transpose()) + bias.clone().unsqueeze();
        for strategy in [Ss1Strategy::Auto, Ss1Strategy::Reference, Ss1Strategy::Staged, Ss1Strategy::Fused] {
            let x = x.clone().reshape([1, tokens, fold.d_input]);
            let y = ss1_linear_with(x, z.clone(), Some(bias.clone()), fold, strategy);
            assert_eq!(y.dims(), [1, tokens, d_output]);
            let error = (y.reshape([tokens, d_output]) - expected.clone()).abs().max().into_scalar::<f64>();
            assert!(error < 1e-12, "{fold:?}, {strategy:?}: {error}");
        }
    }
}

/// The gradients of the public function, on every device.
#[test]
fn every_strategy_matches_the_reference_gradients() {
    for device in public_devices() {
        for (tokens, d_output, fold) in [cases()[1], cases()[2]] {
            let case = Case::new(tokens, d_output, fold);
            let gradients = |device: &Device, strategy: Ss1Strategy| {
                let device = device.clone().autodiff();
                let leaf = |values: &[f64], shape: [usize; 2]| {
                    let data = TensorData::new(values.to_vec(), shape).convert::<f32>();
                    Tensor::<2>::from_data(data, &device).require_grad()
                };
                let x = leaf(&case.x, [tokens, fold.d_input]);
                let z = leaf(&case.z, [fold.width(), d_output]);
                let g = leaf(&case.g, [tokens, d_output]).detach();
                let grads = (ss1_linear_with(x.clone(), z.clone(), None, fold, strategy) * g).sum().backward();
                [x, z].map(|leaf| leaf.grad(&grads).expect("a gradient").into_data().try_into_vec::<f32>().unwrap())
            };
            let expected = case.expected();
            // The others rest on the device's own matmul, which cannot be launched everywhere.
            let strategies = match device == Device::flex() {
                true => &[Ss1Strategy::Auto, Ss1Strategy::Reference, Ss1Strategy::Staged, Ss1Strategy::Fused][..],
                false => &[Ss1Strategy::Fused],
            };
            for &strategy in strategies {
                let [dx, dz] = gradients(&device, strategy).map(|values| values.into_iter().map(f64::from).collect());
                let what = format!("{device:?}, {strategy:?}, {fold:?}");
                let check = |name: &str, length: usize, actual: Vec<f64>, (expected, magnitude): &Bounded| {
                    assert_close(&format!("{what}: {name}"), DType::F32, length, &actual, expected, magnitude);
                };
                check("dx", 2 * d_output, dx, &expected.dx);
                check("dz", tokens + fold.reduction, dz, &expected.dz);
            }
        }
    }
}

#[test]
#[should_panic(expected = "`z` must be [w, m] with w = 4")]
fn a_wrong_number_of_stored_weights_is_named() {
    let fold = Fold { d_input: 8, reduction: 2, block_k: 4, block_n: 2, rotations: SIGNED };
    let device = Device::flex();
    ss1_linear(Tensor::<2>::zeros([3, 8], &device), Tensor::zeros([5, 6], &device), None, fold);
}
