//! Elements of one column on their way into an Arrow array.

use std::sync::Arc;

use arrow::array::BooleanBufferBuilder;
use arrow::array::{ArrayRef, BooleanArray, PrimitiveArray, StringArray};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use half::{bf16, f16};

use super::layout::is_number;
use super::slices::text_bytes;
use crate::prediction_log::redaction::{mask, number_text, rounded, rounded_integer};
use crate::prediction_log::settings::Redaction;
use crate::tensor::{DataType, Element};

// Tensors are little-endian and Arrow's buffers are as the machine has it: bytes go from one to the other as they are.
const _: () = assert!(cfg!(target_endian = "little"));

/// Most memory that a column takes before it is needed, because the last batch needed as much; bytes, or texts.
const MAX_AT_ONCE: usize = 1 << 16;

/// Texts that lie side by side.
#[derive(Debug)]
pub struct Texts {
    /// Where each begins, and where the last ends.
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { ends: vec![0], bytes: Vec::new() }
    }
}

impl Texts {
    /// Memory for so many texts of so many bytes in all.
    pub fn with_capacity(texts: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(texts + 1);
        ends.push(0);
        Self { ends, bytes: Vec::with_capacity(bytes) }
    }

    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// Whether it had to be changed to be UTF-8.
    pub fn push_lossy(&mut self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.push(&text);
        matches!(text, std::borrow::Cow::Owned(_))
    }

    fn end(&mut self) {
        // Columns take no row that would lead beyond it; see `has_room`.
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<i32>()
    }

    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        // As much again, without growing to it step by step; a batch that was unusually large does not hold its memory.
        let next = Self::with_capacity(self.ends.len().min(MAX_AT_ONCE), self.bytes.len().min(MAX_AT_ONCE));
        let Self { ends, bytes } = std::mem::replace(self, next);
        StringArray::new(OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes), nulls)
    }
}

/// Elements of one datatype, redacted as they come.
#[derive(Debug)]
pub struct Elements {
    dtype: DataType,
    rule: Option<Redaction>,
    store: Store,
    /// For one element's text.
    text: String,
}

#[derive(Debug)]
enum Store {
    /// Numbers as Arrow holds them.
    Numbers(MutableBuffer),
    Truths(BooleanBufferBuilder),
    Texts(Texts),
}

impl Elements {
    /// The rule is `None`, or one that fits the datatype; `Drop` and `Hmac` are whole rows' business and change nothing here.
    pub fn new(dtype: DataType, rule: Option<Redaction>) -> Self {
        let store = match (dtype, rule) {
            (_, Some(Redaction::Mask { .. } | Redaction::Hmac)) | (DataType::Bytes, _) => {
                Store::Texts(Texts::default())
            }
            (DataType::Bool, _) => Store::Truths(BooleanBufferBuilder::new(0)),
            _ => Store::Numbers(MutableBuffer::new(0)),
        };
        Self { dtype, rule, store, text: String::new() }
    }

    /// Appends all elements of `raw`, bytes as a tensor holds them. Whether a text had to be changed to be UTF-8.
    pub fn append(&mut self, raw: &[u8]) -> bool {
        match (&mut self.store, self.rule) {
            (Store::Truths(truths), _) => raw.iter().for_each(|&byte| truths.append(byte != 0)),
            (Store::Numbers(buffer), rule) => {
                let decimals = if let Some(Redaction::Round(decimals)) = rule { Some(decimals) } else { None };
                append_numbers(self.dtype, raw, decimals, buffer);
            }
            (Store::Texts(texts), Some(Redaction::Mask { keep_last })) => {
                let mut lossy = false;
                for element in elements(self.dtype, raw) {
                    self.text.clear();
                    if is_number(self.dtype) {
                        number_text(self.dtype, element, &mut self.text);
                        let plain = std::mem::take(&mut self.text);
                        mask(&plain, keep_last, &mut self.text);
                    } else {
                        let plain = String::from_utf8_lossy(element);
                        lossy |= matches!(plain, std::borrow::Cow::Owned(_));
                        mask(&plain, keep_last, &mut self.text);
                    }
                    texts.push(&self.text);
                }
                return lossy;
            }
            (Store::Texts(texts), _) => {
                return elements(self.dtype, raw).fold(false, |lossy, element| texts.push_lossy(element) | lossy);
            }
        }
        false
    }

    /// Appends a text where the column holds texts instead of its datatype.
    pub fn append_text(&mut self, text: &str) {
        if let Store::Texts(texts) = &mut self.store {
            texts.push(text);
        }
    }

    /// Appends what stands under a null, so many times.
    pub fn append_blank(&mut self, count: usize) {
        match &mut self.store {
            Store::Numbers(buffer) => buffer.extend_zeros(count * stored_width(self.dtype)),
            Store::Truths(truths) => truths.append_n(count, false),
            Store::Texts(texts) => (0..count).for_each(|_| texts.end()),
        }
    }

    pub fn len(&self) -> usize {
        match &self.store {
            Store::Numbers(buffer) => buffer.len() / stored_width(self.dtype),
            Store::Truths(truths) => truths.len(),
            Store::Texts(texts) => texts.ends.len() - 1,
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::Numbers(buffer) => buffer.len(),
            Store::Truths(truths) => truths.len() / 8,
            Store::Texts(texts) => texts.bytes(),
        }
    }

    /// Whether a row of so many bytes can be added. Arrow counts texts and lists in 31 bits; text that is not UTF-8 grows to
    /// three times its size, and a number becomes at most 21 characters.
    pub fn has_room(&self, raw_bytes: usize) -> bool {
        raw_bytes.checked_mul(32).is_some_and(|most| self.bytes().max(self.len()) + most < i32::MAX as usize)
    }

    /// The array of what was appended. Begins anew.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let buffer = match &mut self.store {
            Store::Texts(texts) => return Arc::new(texts.finish(nulls)),
            Store::Truths(truths) => return Arc::new(BooleanArray::new(truths.finish(), nulls)),
            Store::Numbers(buffer) => {
                let next = MutableBuffer::new(buffer.len().min(MAX_AT_ONCE));
                Buffer::from(std::mem::replace(buffer, next))
            }
        };
        match self.dtype {
            DataType::Int8 => numbers::<Int8Type>(buffer, nulls),
            DataType::Int16 => numbers::<Int16Type>(buffer, nulls),
            DataType::Int32 => numbers::<Int32Type>(buffer, nulls),
            DataType::Int64 => numbers::<Int64Type>(buffer, nulls),
            DataType::Uint8 => numbers::<UInt8Type>(buffer, nulls),
            DataType::Uint16 => numbers::<UInt16Type>(buffer, nulls),
            DataType::Uint32 => numbers::<UInt32Type>(buffer, nulls),
            DataType::Uint64 => numbers::<UInt64Type>(buffer, nulls),
            DataType::Fp64 => numbers::<Float64Type>(buffer, nulls),
            // Truths and texts never lie in this store.
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Bool | DataType::Bytes => {
                numbers::<Float32Type>(buffer, nulls)
            }
        }
    }
}

fn numbers<T: ArrowPrimitiveType>(buffer: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
    let count = buffer.len() / size_of::<T::Native>();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::new(buffer, 0, count), nulls))
}

/// Bytes of a number in its column.
fn stored_width(dtype: DataType) -> usize {
    match dtype {
        DataType::Fp16 | DataType::Bf16 => size_of::<f32>(),
        _ => dtype.size().unwrap_or(1),
    }
}

/// Elements one by one; a text without its length.
fn elements(dtype: DataType, raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let length = match dtype.size() {
            Some(width) => width,
            None => 4 + u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize,
        };
        let (element, after) = rest.split_at_checked(length).filter(|_| !rest.is_empty())?;
        rest = after;
        Some(if dtype == DataType::Bytes { text_bytes(element) } else { element })
    })
}

fn append_numbers(dtype: DataType, raw: &[u8], decimals: Option<i32>, out: &mut MutableBuffer) {
    /// Numbers with a fraction, perhaps through another width.
    fn floats<T: Element, S: ArrowNativeType>(raw: &[u8], out: &mut MutableBuffer, change: impl Fn(T) -> S) {
        raw.chunks_exact(size_of::<T>()).for_each(|element| out.push(change(T::read_le(element))));
    }
    let round32 = |value: f32| decimals.map_or(value, |decimals| rounded(value.into(), decimals) as f32);
    match (dtype, decimals) {
        (DataType::Fp16, _) => floats(raw, out, |value: f16| round32(value.to_f32())),
        (DataType::Bf16, _) => floats(raw, out, |value: bf16| round32(value.to_f32())),
        (_, None) => out.extend_from_slice(raw),
        (DataType::Fp32, _) => floats(raw, out, round32),
        (DataType::Fp64, Some(decimals)) => floats(raw, out, |value: f64| rounded(value, decimals)),
        (_, Some(decimals)) => integers(dtype, raw, decimals, out),
    }
}

/// Whole numbers, rounded and kept within their type.
fn integers(dtype: DataType, raw: &[u8], decimals: i32, out: &mut MutableBuffer) {
    macro_rules! each {
        ($t:ty) => {
            raw.chunks_exact(size_of::<$t>()).for_each(|element| {
                let rounded = rounded_integer(i128::from(<$t>::read_le(element)), decimals);
                out.push(rounded.clamp(<$t>::MIN.into(), <$t>::MAX.into()) as $t);
            })
        };
    }
    match dtype {
        DataType::Int8 => each!(i8),
        DataType::Int16 => each!(i16),
        DataType::Int32 => each!(i32),
        DataType::Int64 => each!(i64),
        DataType::Uint8 => each!(u8),
        DataType::Uint16 => each!(u16),
        DataType::Uint32 => each!(u32),
        DataType::Uint64 => each!(u64),
        _ => {}
    }
}
