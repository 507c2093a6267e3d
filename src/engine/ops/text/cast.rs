//! `ai.onnx.Cast` (version 13): tract's, but for texts, and for INT64: tract makes sizes of all that is cast to it, of which it then
//! keeps 32 bits. Here a size stays one, and any other number becomes an INT64.
//!
//! Texts become numbers and numbers texts as on ONNX Runtime. What begins with a number is that number: what is behind it is left aside, as by C's `strtoll` and `strtod`. An integer is read
//! as one of 64 bits, of which a narrower type has the last; BOOL is whether it isn't 0. Floats are written with eight digits.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::inputs::{exactly, plain};
use super::super::kernel::{Kernel, typed};
use super::super::unfit::unfit;
use super::{tensor, texts};

/// Digits of a float that is written.
const DIGITS: i32 = 8;
/// Longest part of a text that an error shows.
const SHOWN_CHARS: usize = 40;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    Ok((expand(Cast { to: node.get_attr("to")? }), vec![]))
}

#[derive(Debug, Clone)]
struct Cast {
    to: DatumType,
}

impl Cast {
    /// What an input of a type becomes. A size stays one as INT64, so that it may hang on symbols.
    fn made_of(&self, given: DatumType) -> DatumType {
        if given.is_tdim() && self.to == DatumType::I64 { given } else { self.to }
    }
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].rank, &inputs[0].rank)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)?;
        solver.given(&inputs[0].datum_type, |solver, given| solver.equals(&outputs[0].datum_type, self.made_of(given)))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let given = model.outlet_fact(inputs[0])?.datum_type;
        if (given == DatumType::String) == (self.to == DatumType::String) {
            return model.wire_node(prefix, cast(self.made_of(given)), inputs);
        }
        let plain = match plain(given) {
            plain if plain == given => inputs[0],
            plain => model.wire_node(format!("{prefix}.plain"), cast(plain), inputs)?[0],
        };
        model.wire_node(prefix, typed(Arc::new(self.clone()), &[0]), &[plain])
    }
}

impl Kernel for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec![self.to.fact(input.shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let x = &inputs[0];
        if x.datum_type() != DatumType::String {
            return Ok(tvec![written(x)?]);
        }
        macro_rules! read {
            ($type:ty, $read:expr) => {
                tensor(x.shape(), texts(x)?.iter().map($read).collect::<TractResult<Vec<$type>>>()?)
            };
        }
        Ok(tvec![match self.to {
            DatumType::Bool => read!(bool, |text| Ok(integer(text)?.bits != 0)),
            DatumType::I8 => read!(i8, |text| Ok(integer(text)?.signed(text)? as i8)),
            DatumType::I16 => read!(i16, |text| Ok(integer(text)?.signed(text)? as i16)),
            DatumType::I32 => read!(i32, |text| Ok(integer(text)?.signed(text)? as i32)),
            DatumType::I64 => read!(i64, |text| integer(text)?.signed(text)),
            DatumType::U8 => read!(u8, |text| Ok(integer(text)?.bits as u8)),
            DatumType::U16 => read!(u16, |text| Ok(integer(text)?.bits as u16)),
            DatumType::U32 => read!(u32, |text| Ok(integer(text)?.bits as u32)),
            DatumType::U64 => read!(u64, |text| Ok(integer(text)?.bits)),
            DatumType::F64 => read!(f64, |text| float(text)),
            DatumType::F32 => read!(f32, |text| single(text)),
            DatumType::F16 => read!(f16, |text| Ok(f16::from_f32(single(text)?))),
            other => bail!("Cast of a text to {other:?}"),
        }?])
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

/// A whole number of 64 bits.
struct Integer {
    bits: u64,
    is_negative: bool,
}

impl Integer {
    fn signed(&self, text: &str) -> TractResult<i64> {
        let signed = self.bits.cast_signed();
        if self.is_negative != (signed < 0) && self.bits != 0 {
            return Err(no_number(text, "integer of 64 bits"));
        }
        Ok(signed)
    }
}

fn no_number(text: &str, kind: &str) -> TractError {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    unfit(format!("Cast: {shown:?} is no {kind}"))
}

/// The number at the beginning of a text, behind white space and a sign.
fn integer(text: &str) -> TractResult<Integer> {
    let (is_negative, digits) = signed(text);
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let size: Option<u64> = digits[..count].parse().ok();
    let size = size.ok_or_else(|| no_number(text, "integer of 64 bits"))?;
    Ok(Integer { bits: if is_negative { size.wrapping_neg() } else { size }, is_negative })
}

/// Whether a number is negative, and what is behind its sign.
fn signed(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn single(text: &str) -> TractResult<f32> {
    let parsed: f32 = decimal(text)?.parse().map_err(|_| no_number(text, "number"))?;
    in_range(text, parsed.into())?;
    Ok(parsed)
}

fn float(text: &str) -> TractResult<f64> {
    let parsed: f64 = decimal(text)?.parse().map_err(|_| no_number(text, "number"))?;
    in_range(text, parsed)?;
    Ok(parsed)
}

/// The number at the beginning of a text, as it is written.
fn decimal(text: &str) -> TractResult<&str> {
    let (_, unsigned) = signed(text);
    let sign = text.len() - unsigned.len();
    let start = sign - usize::from(text[..sign].ends_with(['+', '-']));
    for word in ["infinity", "inf", "nan"] {
        if unsigned.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word)) {
            return Ok(&text[start..sign + word.len()]);
        }
    }
    if unsigned.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("0x")) {
        return Err(no_number(text, "number in decimal"));
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(unsigned);
    let mut count = end;
    if unsigned[end..].starts_with('.') {
        let behind = digits(&unsigned[end + 1..]);
        (end, count) = (end + 1 + behind, count + behind);
    }
    if count == 0 {
        return Err(no_number(text, "number"));
    }
    if unsigned[end..].starts_with(['e', 'E']) {
        let exponent = &unsigned[end + 1..];
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let behind = digits(&exponent[sign..]);
        end += if behind > 0 { 1 + sign + behind } else { 0 };
    }
    Ok(&text[start..sign + end])
}

/// Refuses what the type has no number for, as ONNX Runtime does: 1e400, and 1e-400, which isn't 0.
fn in_range(text: &str, parsed: f64) -> TractResult<()> {
    let (_, unsigned) = signed(text);
    let is_word = unsigned.starts_with(|first: char| first.is_ascii_alphabetic());
    let mantissa = unsigned.split(['e', 'E']).next().unwrap_or_default();
    let is_lost = parsed == 0.0 && mantissa.bytes().any(|digit| (b'1'..=b'9').contains(&digit));
    match !is_word && (parsed.is_infinite() || is_lost) {
        true => Err(no_number(text, "number of that type's range")),
        false => Ok(()),
    }
}

fn written(x: &Tensor) -> TractResult<Tensor> {
    let floats = |x: &Tensor| -> TractResult<Vec<String>> {
        Ok(x.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.iter().map(|x| eight_digits(*x)).collect())
    };
    let all = match x.datum_type() {
        DatumType::F16 | DatumType::F32 | DatumType::F64 => floats(x)?,
        DatumType::Bool => x.try_as_plain_ram()?.as_slice::<bool>()?.iter().map(|x| u8::from(*x).to_string()).collect(),
        DatumType::U64 => x.try_as_plain_ram()?.as_slice::<u64>()?.iter().map(u64::to_string).collect(),
        given if given.is_integer() => {
            x.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(i64::to_string).collect()
        }
        other => bail!("Cast of {other:?} to a text"),
    };
    tensor(x.shape(), all)
}

/// A float as C's `%.8g` writes it, but for what is not finite.
fn eight_digits(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "INF" } else { "-INF" }.into();
    }
    let scientific = format!("{x:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match (-4..DIGITS).contains(&exponent) {
        true => trimmed(&format!("{x:.*}", (DIGITS - 1 - exponent) as usize)),
        false => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;

    use super::super::super::is_unfit;
    use super::super::super::testing::{Node, run};
    use super::*;

    fn made_of(x: Tensor, to: OnnxType) -> TractResult<Tensor> {
        Ok(run(Node::new("Cast").int("to", to as i64), &[x], 1)?.remove(0))
    }

    fn of(all: &[&str]) -> Tensor {
        tensor1(&all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    /// Expected values are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn texts_become_the_numbers_that_they_begin_with() {
        let whole = ["1", "-3", "+4", " 5", "6 ", "1.5", "12abc", "007"];
        assert_eq!(made_of(of(&whole), OnnxType::Int64).unwrap(), tensor1(&[1i64, -3, 4, 5, 6, 1, 12, 7]));
        assert_eq!(made_of(of(&whole), OnnxType::Int32).unwrap(), tensor1(&[1i32, -3, 4, 5, 6, 1, 12, 7]));
        assert_eq!(made_of(of(&["3000000000", "300"]), OnnxType::Int32).unwrap(), tensor1(&[-1_294_967_296i32, 300]));
        assert_eq!(made_of(of(&["-3", "300"]), OnnxType::Uint8).unwrap(), tensor1(&[253u8, 44]));
        let ends = ["9223372036854775807", "-9223372036854775808"];
        assert_eq!(made_of(of(&ends), OnnxType::Int64).unwrap(), tensor1(&[i64::MAX, i64::MIN]));
        assert_eq!(made_of(of(&["18446744073709551615"]), OnnxType::Uint64).unwrap(), tensor1(&[u64::MAX]));
        assert_eq!(made_of(of(&["1", "0", "7", "-1"]), OnnxType::Bool).unwrap(), tensor1(&[true, false, true, true]));
        let floats = ["1.5", "1e3", ".5", "5.", "inf", "-INF", "12abc", "-2e", "+Infinity"];
        let expected = [1.5, 1e3, 0.5, 5.0, f64::INFINITY, f64::NEG_INFINITY, 12.0, -2.0, f64::INFINITY];
        assert_eq!(made_of(of(&floats), OnnxType::Double).unwrap(), tensor1(&expected));
        let single = expected.map(|x| x as f32);
        assert_eq!(made_of(of(&floats), OnnxType::Float).unwrap(), tensor1(&single));
    }

    #[test]
    fn an_int64_has_64_bits() {
        let whole = |x: Tensor| made_of(x, OnnxType::Int64).unwrap();
        assert_eq!(whole(tensor1(&[3e9f32, -5e9, 7.9])), tensor1(&[3_000_000_000i64, -5_000_000_000, 7]));
        assert_eq!(whole(tensor1(&[1e15f64, -1e15])), tensor1(&[1_000_000_000_000_000i64, -1_000_000_000_000_000]));
        assert_eq!(whole(tensor1(&[1i64 << 40, -3])), tensor1(&[1i64 << 40, -3]));
        assert_eq!(whole(tensor1(&[u32::MAX])), tensor1(&[4_294_967_295i64]));
        assert_eq!(whole(tensor1(&[true, false])), tensor1(&[1i64, 0]));
    }

    #[test]
    fn a_text_that_is_no_number_is_the_requests_fault() {
        let refused = |text: &str, to| {
            let error = made_of(of(&[text]), to).unwrap_err();
            assert!(is_unfit(&error), "{error:#}");
        };
        for to in [OnnxType::Int64, OnnxType::Int32, OnnxType::Bool, OnnxType::Float, OnnxType::Double] {
            for text in ["abc", "", "true", " ", "-", "é", "--1"] {
                refused(text, to);
            }
        }
        for text in ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "nan", ".5"] {
            refused(text, OnnxType::Int64);
        }
        for text in ["1e400", "1e-400", ".", "e5"] {
            refused(text, OnnxType::Double);
        }
    }

    #[test]
    fn numbers_are_written_with_eight_digits() {
        let floats =
            [0.0f64, -0.0, 1.0, -2.5, 1e10, 123_456_789.0, 1e-5, 0.0001, 1.0 / 3.0, f64::NAN, f64::NEG_INFINITY, 1e300];
        let expected = [
            "0",
            "-0",
            "1",
            "-2.5",
            "1e+10",
            "1.2345679e+08",
            "1e-05",
            "0.0001",
            "0.33333333",
            "NaN",
            "-INF",
            "1e+300",
        ];
        assert_eq!(made_of(tensor1(&floats), OnnxType::String).unwrap(), of(&expected));
        assert_eq!(
            made_of(tensor1(&[1e-5f32, 99_999_999.0, 16_777_216.0, 0.1]), OnnxType::String).unwrap(),
            of(&["9.9999997e-06", "1e+08", "16777216", "0.1"])
        );
        assert_eq!(made_of(tensor1(&[true, false]), OnnxType::String).unwrap(), of(&["1", "0"]));
        assert_eq!(made_of(tensor1(&[u64::MAX]), OnnxType::String).unwrap(), of(&["18446744073709551615"]));
        assert_eq!(made_of(tensor1(&[i64::MIN, 7]), OnnxType::String).unwrap(), of(&["-9223372036854775808", "7"]));
        assert_eq!(made_of(of(&["a"]), OnnxType::String).unwrap(), of(&["a"]));
    }
}
