//! Factorization of a stream of matrices, such as the weights of a checkpoint, in batches of equal shape and bounded memory.
//!
//! The result for a matrix depends on the matrix, the settings and the seed, not on its batch.

use super::{Factorization, FactorizerConfig, Progress};
use crate::CompressError;
use crate::approximate::check_not_empty;
use burn::tensor::{DType, Device, Tensor};
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::ControlFlow;

/// A matrix of a stream.
#[derive(Clone, Debug)]
pub struct NamedMatrix {
    /// The name that its factors come back with.
    pub name: String,
    /// `[m, n]`.
    pub weight: Tensor<2>,
    /// The second moment of its inputs, `[n, n]`, if distances are to be measured on them.
    pub moment: Option<Tensor<2>>,
}

impl NamedMatrix {
    /// A matrix in the plain distance.
    pub fn new(name: impl Into<String>, weight: Tensor<2>) -> Self {
        Self { name: name.into(), weight, moment: None }
    }

    /// The same matrix, with distances measured on inputs of this second moment.
    #[must_use]
    pub fn with_moment(self, moment: Tensor<2>) -> Self {
        Self { moment: Some(moment), ..self }
    }

    /// The entries of weight and moment.
    fn entries(&self) -> usize {
        let entries = |matrix: &Tensor<2>| matrix.dims().iter().product::<usize>();
        entries(&self.weight) + self.moment.as_ref().map_or(0, entries)
    }
}

/// What the matrices of a batch have in common.
#[derive(PartialEq)]
struct Kind {
    shape: [usize; 2],
    moment: Option<[usize; 2]>,
    dtype: DType,
    device: Device,
}

impl Kind {
    fn of(matrix: &NamedMatrix) -> Self {
        let NamedMatrix { weight, moment, .. } = matrix;
        let moment = moment.as_ref().map(|moment| moment.dims());
        Self { shape: weight.dims(), moment, dtype: weight.dtype(), device: weight.device() }
    }
}

/// Matrices that wait for others of their kind.
struct Group {
    kind: Kind,
    matrices: Vec<NamedMatrix>,
    entries: usize,
}

type Observer<'a> = Box<dyn FnMut(&[String], Progress) -> ControlFlow<()> + 'a>;

/// The factorizations of a stream of matrices, as they are found.
///
/// Should be created with [`FactorizerConfig::stream`].
pub struct Factorizations<'a, I> {
    config: FactorizerConfig,
    matrices: I,
    /// Entries that may wait.
    memory_limit: usize,
    waiting: Vec<Group>,
    found: VecDeque<Result<(String, Factorization), CompressError>>,
    observer: Option<Observer<'a>>,
}

/// The default limit in entries: 64 MiB in f32.
const MEMORY_LIMIT: usize = 1 << 24;

impl FactorizerConfig {
    /// Factorizes a stream of named matrices, such as the tensors of a checkpoint while it is read, and yields each with its name as
    /// soon as it is found. Matrices of equal shape are factorized together, in the order of their batches.
    ///
    /// A matrix that cannot be factorized yields an [error](CompressError::Layer) with its name, and does not disturb the
    /// others. A time budget is that of a batch.
    ///
    /// # Example
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_structured_compress::factorize::{FactorizerConfig, NamedMatrix};
    /// use burn_structured_nn::{Blocks, Rank};
    ///
    /// let device = Device::flex();
    /// let shapes = [("query", [16, 16]), ("up", [32, 16]), ("key", [16, 16])];
    /// // Created one by one, when they are needed.
    /// let weights = shapes.into_iter().map(|(name, shape)| {
    ///     NamedMatrix::new(name, Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device))
    /// });
    /// let config = FactorizerConfig::new().with_blocks(Blocks::Square(4)).with_rank(Rank::Ratio(0.5)).with_steps(10);
    /// for found in config.stream(weights) {
    ///     let (name, found) = found?;
    ///     println!("{name}: {}, relative error {:.3}", found.layer(0, None), found.errors()[0]);
    /// }
    /// # Ok::<(), burn_structured_compress::CompressError>(())
    /// ```
    pub fn stream<'a, I: IntoIterator<Item = NamedMatrix>>(&self, matrices: I) -> Factorizations<'a, I::IntoIter> {
        Factorizations {
            config: self.clone(),
            matrices: matrices.into_iter(),
            memory_limit: MEMORY_LIMIT,
            waiting: Vec::new(),
            found: VecDeque::new(),
            observer: None,
        }
    }
}

impl<'a, I: Iterator<Item = NamedMatrix>> Factorizations<'a, I> {
    /// How many entries of matrices and moments may wait for others of their shape, and at most be factorized together: 2²⁴
    /// unless set here. A matrix with more is factorized alone. With 0 every matrix is.
    #[must_use]
    pub fn with_memory_limit(self, entries: usize) -> Self {
        Self { memory_limit: entries, ..self }
    }

    /// Calls `observer` with the names of a batch at its start and after every step; `Break` ends the run of this batch with what
    /// was found so far.
    #[must_use]
    pub fn with_observer(self, observer: impl FnMut(&[String], Progress) -> ControlFlow<()> + 'a) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// Adds a matrix to the group of its kind, after factorizing groups until it is within the memory limit.
    fn take(&mut self, mut matrix: NamedMatrix) {
        let (device, entries) = (matrix.weight.device(), matrix.entries());
        matrix.moment = matrix.moment.map(|moment| moment.to_device(&device));
        while !self.waiting.is_empty() && self.held() + entries > self.memory_limit {
            self.factorize_largest();
        }
        let kind = Kind::of(&matrix);
        match self.waiting.iter_mut().find(|group| group.kind == kind) {
            Some(group) => {
                group.entries += entries;
                group.matrices.push(matrix);
            }
            None => self.waiting.push(Group { kind, matrices: vec![matrix], entries }),
        }
    }

    fn held(&self) -> usize {
        self.waiting.iter().map(|group| group.entries).sum()
    }

    fn factorize_largest(&mut self) {
        // Of equally large ones, the oldest.
        let largest = (0..self.waiting.len()).rev().max_by_key(|at| self.waiting[*at].entries);
        let Some(largest) = largest else { return };
        let matrices = self.waiting.remove(largest).matrices;
        match self.factorize(&matrices) {
            Ok(found) => {
                let names = matrices.into_iter().map(|matrix| matrix.name);
                self.found.extend(names.zip(found.into_matrices()).map(Ok));
            }
            Err(error) => {
                let alone = matrices.len() == 1;
                let mut first = Some(error);
                for matrix in matrices {
                    // One matrix is at fault: each is factorized alone to find it.
                    let found = match first.take_if(|_| alone) {
                        Some(error) => Err(error),
                        None => self.factorize(std::slice::from_ref(&matrix)),
                    };
                    let NamedMatrix { name, .. } = matrix;
                    self.found.push_back(match found {
                        Ok(found) => Ok((name, found)),
                        Err(source) => Err(CompressError::Layer { name, source: Box::new(source) }),
                    });
                }
            }
        }
    }

    fn factorize(&mut self, matrices: &[NamedMatrix]) -> Result<Factorization, CompressError> {
        matrices.iter().try_for_each(|matrix| check_not_empty(&matrix.weight))?;
        let mut factorizer = self.config.init();
        let moments: Vec<_> = matrices.iter().filter_map(|matrix| matrix.moment.clone()).collect();
        if !moments.is_empty() {
            factorizer = factorizer.with_moment(Tensor::stack::<3>(moments, 0));
        }
        let names: Vec<String> = matrices.iter().map(|matrix| matrix.name.clone()).collect();
        if let Some(observer) = &mut self.observer {
            factorizer = factorizer.with_observer(move |progress| observer(&names, progress));
        }
        factorizer.factorize_batch(Tensor::stack(matrices.iter().map(|matrix| matrix.weight.clone()).collect(), 0))
    }
}

impl<I: Iterator<Item = NamedMatrix>> Iterator for Factorizations<'_, I> {
    type Item = Result<(String, Factorization), CompressError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            match self.matrices.next() {
                Some(matrix) => self.take(matrix),
                None if self.waiting.is_empty() => return None,
                None => self.factorize_largest(),
            }
        }
    }
}

impl<I: FusedIterator<Item = NamedMatrix>> FusedIterator for Factorizations<'_, I> {}

impl<I> fmt::Debug for Factorizations<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.iter().map(|group| group.matrices.len()).sum::<usize>();
        f.debug_struct("Factorizations")
            .field("config", &self.config)
            .field("memory_limit", &self.memory_limit)
            .field("waiting", &waiting)
            .field("found", &self.found.len())
            .finish_non_exhaustive()
    }
}
