//! The greatest and the least along axes, and where they are: `ArgMax` and `ArgMin`, `Hardmax`, `ReduceMax` and `ReduceMin`;
//! and `ReduceProd`, sums and means of integers, which go the same way.
//!
//! In place of tract's, which visits each element through a view of its own, gives finite numbers for the extremes of nothing,
//! and takes no BOOL. The cures belong there (`ops/nn/reduce.rs` of tract-core).
//!
//! What comes of a NaN ONNX leaves open. Here, as mostly in ONNX Runtime, nothing is beyond a NaN and a NaN is beyond nothing.

mod hardmax;
mod places;
mod values;

use tract_onnx::tract_hir::internal::*;

pub use self::hardmax::build as build_hardmax;
pub use self::places::build as build_places;
pub use self::values::build as build_values;
use super::{Built, inputs, kernel, stand_in, unfit};

/// Elements side by side, so that they fill the registers.
const LANES: usize = 16;

/// A tensor as groups of `count` slices of `inner` elements: each element is compared with those at its place in the group's
/// other slices.
#[derive(Debug, Clone, Copy)]
struct Along {
    count: usize,
    inner: usize,
}

impl Along {
    /// The adjacent axes from `first` to `last`.
    fn axes(shape: &[usize], first: usize, last: usize) -> Self {
        Self { count: shape[first..=last].iter().product(), inner: shape[last + 1..].iter().product() }
    }

    /// Calls `each` for every group of slices.
    fn for_each_group<T>(self, elements: &[T], each: impl FnMut(&[T])) {
        let size = self.count * self.inner;
        if size > 0 {
            elements.chunks_exact(size).for_each(each);
        }
    }
}

/// Calls a function with the type of the tensor's elements.
macro_rules! for_type {
    ($dt:expr, $function:ident($($argument:expr),*)) => {
        match $dt {
            DatumType::U8 => $function::<u8>($($argument),*),
            DatumType::U16 => $function::<u16>($($argument),*),
            DatumType::U32 => $function::<u32>($($argument),*),
            DatumType::U64 => $function::<u64>($($argument),*),
            DatumType::I8 => $function::<i8>($($argument),*),
            DatumType::I16 => $function::<i16>($($argument),*),
            DatumType::I32 => $function::<i32>($($argument),*),
            DatumType::I64 => $function::<i64>($($argument),*),
            DatumType::F16 => $function::<f16>($($argument),*),
            DatumType::F32 => $function::<f32>($($argument),*),
            DatumType::F64 => $function::<f64>($($argument),*),
            other => bail!("an input of {other:?}"),
        }
    };
}
pub(super) use for_type;

pub fn is_number(dt: DatumType) -> bool {
    dt.is_number() && !dt.is_quantized() && !dt.is_tdim()
}
