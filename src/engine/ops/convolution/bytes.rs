//! Convolution of quantised images: sums of products of bytes, which are exact, scaled and rounded once, as ONNX Runtime's
//! QLinearConv does.
//!
//! Only for processors that multiply bytes and add the products at once (AVX-512 VNNI); on others such convolutions are
//! computed in FP32 between a DequantizeLinear and a QuantizeLinear.

use tract_onnx::tract_hir::internal::*;

use super::AtPlaces;
use super::bytes_dense::BytesDense;
use super::bytes_depthwise::BytesDepthwise;
use super::vector::Simd;
use super::window::Table;

/// Numbers in a vector: of 32 bits each.
pub const LANES: usize = 16;

/// What a convolution is made of. Weights are in ONNX's order: output channel, input channel of its group, tap.
pub struct ByteFilters {
    /// Less their zero points.
    pub weights: Vec<i8>,
    /// As whole numbers of the sums' unit.
    pub biases: Vec<i32>,
    pub groups: usize,
    pub taps: usize,
    pub input: (DatumType, i32),
    pub scaling: Scaling,
}

/// What makes a quantised value of a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Of each output channel: the scale of the images times that of its weights by that of the result.
    pub factors: Vec<f32>,
    /// What lies outside of these after that becomes them, before the zero point is added.
    pub limits: [f32; 2],
    pub zero_point: i32,
    pub output: DatumType,
}

/// A convolution of INT8 or UINT8.
#[derive(Debug, PartialEq)]
pub struct Bytes {
    what: How,
    input: (DatumType, i32),
    scaling: Scaling,
    proven: Vnni,
}

#[derive(Debug, PartialEq)]
enum How {
    Dense(BytesDense),
    Depthwise(BytesDepthwise),
}

/// That the processor was asked for the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vnni(());

impl Vnni {
    /// `None` where the processor lacks them.
    pub fn ask() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let has = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            has.then_some(Self(()))
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

impl Bytes {
    /// `None` where a group has a number of channels that isn't four's multiple and isn't all of them.
    pub fn new(filters: ByteFilters, proven: Vnni) -> Option<Self> {
        let outputs = filters.biases.len();
        let channels = filters.weights.len() / (outputs * filters.taps);
        let what = match filters.groups {
            groups if groups > 1 && groups == outputs && channels == 1 => {
                How::Depthwise(BytesDepthwise::new(&filters)?)
            }
            groups if groups > 1 && !channels.is_multiple_of(4) => return None,
            _ => How::Dense(BytesDense::new(&filters)),
        };
        Some(Self { what, input: filters.input, scaling: filters.scaling, proven })
    }
}

impl AtPlaces for Bytes {
    type Value = u8;

    const SLACK: usize = 3;

    fn types(&self) -> [DatumType; 2] {
        [self.input.0, self.scaling.output]
    }

    fn outputs(&self) -> usize {
        self.scaling.factors.len()
    }

    fn beside(&self) -> u8 {
        // The byte of the zero point, whichever of the two types it is of.
        self.input.1 as u8
    }

    fn run(&self, _: Simd, table: &Table<'_, u8>, _: usize, to: &mut [u8]) {
        match &self.what {
            How::Dense(dense) => dense.run(self.proven, table, &self.scaling, to),
            How::Depthwise(depthwise) => depthwise.run(self.proven, table, &self.scaling, to),
        }
    }

    fn held_bytes(&self) -> u64 {
        let own = match &self.what {
            How::Dense(dense) => dense.held_bytes(),
            How::Depthwise(depthwise) => depthwise.held_bytes(),
        };
        own + (self.scaling.factors.len() * size_of::<f32>()) as u64
    }
}

/// What turns a byte of the type into the one without a sign that is larger by [`offset`]: its highest bit, or nothing.
pub fn flip(datum_type: DatumType) -> u8 {
    if datum_type == DatumType::I8 { 0x80 } else { 0 }
}

/// How much larger it is then.
pub fn offset(datum_type: DatumType) -> i32 {
    i32::from(flip(datum_type))
}
