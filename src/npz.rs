//! Reads NumPy's `.npy` and `.npz` files into tensors, and the recorded examples that are made of them.
//!
//! A recorded example is a `.npz` with the keys `in/<name>` and `out/<name>`. Text may lie beside it in a file of the
//! same name with `.strings.json`: `{"in": {"s": {"shape": [1, 2], "data": ["a", "b"]}}, "out": {…}}`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr};
use serde::Deserialize;

use crate::tensor::{DataType, Tensor, TensorError, element_count, parse_shape};

/// Largest file read, and the most that the members of an archive may unpack to, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;
/// Most members of an archive.
pub const MAX_MEMBERS: usize = 1024;
/// Longest header of an array, in bytes; NumPy's have about a hundred.
const MAX_HEADER_BYTES: u32 = 4096;
/// Most brackets in a header, which bound how deep it nests. A header without records needs two pairs.
const MAX_HEADER_BRACKETS: usize = 8;

/// Why a file gave no tensors.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    #[error("it can't be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error("it has {got} bytes, at most {limit} are read")]
    TooLarge { got: u64, limit: u64 },
    #[error("it has {got} members, at most {limit} are read")]
    TooManyMembers { got: usize, limit: usize },
    #[error("it is not a NumPy archive: {0}")]
    NotAnArchive(String),
    #[error("it is not a NumPy array: {0}")]
    NotAnArray(String),
    #[error("arrays of {descr} can't be read: {advice}")]
    Unsupported { descr: String, advice: &'static str },
    #[error("text of the example: {0}")]
    NotText(String),
    #[error("'{member}': {source}")]
    Member { member: String, source: Box<NpzError> },
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A recorded example: what went in and what came out, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    pub inputs: BTreeMap<String, Tensor>,
    pub outputs: BTreeMap<String, Tensor>,
}

/// Reads a recorded example and the text beside it, if any. Members whose keys begin neither with `in/` nor with `out/`
/// are left out.
///
/// # Errors
/// `NpzError`, whose text names the member but no path.
pub fn read_example(path: &Path) -> Result<Example, NpzError> {
    let mut members = read_npz(&read_file(path)?)?;
    let strings = path.with_extension("strings.json");
    if strings.exists() {
        members.extend(read_strings(&read_file(&strings)?)?);
    }
    let mut example = Example::default();
    for (key, tensor) in members {
        match key.split_once('/') {
            Some(("in", name)) => drop(example.inputs.insert(name.to_owned(), tensor)),
            Some(("out", name)) => drop(example.outputs.insert(name.to_owned(), tensor)),
            _ => {}
        }
    }
    Ok(example)
}

/// Reads a `.npz` archive: its arrays by name, without `.npy`.
///
/// # Errors
/// `NpzError` for the first member that can't be read, or when the archive passes the bounds.
pub fn read_npz(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, NpzError> {
    let not_an_archive = |error: zip::result::ZipError| NpzError::NotAnArchive(error.to_string());
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(not_an_archive)?;
    if archive.len() > MAX_MEMBERS {
        return Err(NpzError::TooManyMembers { got: archive.len(), limit: MAX_MEMBERS });
    }
    let mut left = MAX_BYTES;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(not_an_archive)?;
        let name = member.name().map_err(not_an_archive)?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let mut array = vec![];
        // The size that the archive states is only a claim, so what is unpacked is counted.
        member.take(left + 1).read_to_end(&mut array).map_err(|error| NpzError::NotAnArchive(error.to_string()))?;
        let size = array.len() as u64;
        left = left.checked_sub(size).ok_or(NpzError::TooLarge { got: MAX_BYTES + 1, limit: MAX_BYTES })?;
        let tensor =
            read_npy(&array).map_err(|source| NpzError::Member { member: name.clone(), source: Box::new(source) })?;
        arrays.insert(name, tensor);
    }
    Ok(arrays)
}

/// Reads one `.npy` array: little-endian, in C order. Text of NumPy's fixed width (`S`, `U`) becomes BYTES.
///
/// # Errors
/// `NotAnArray`, or `Unsupported` with what to save it as.
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, NpzError> {
    let (header, data) = read_header(bytes)?;
    let shape = header.shape().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect::<Vec<_>>();
    let shape = parse_shape(&shape)?;
    let descr = header.dtype().descr();
    let unsupported = |advice| NpzError::Unsupported { descr: descr.clone(), advice };
    let DType::Plain(element) = header.dtype() else {
        return Err(unsupported("save one array for each field"));
    };
    if header.order() == Order::Fortran && shape.len() > 1 {
        return Err(unsupported("save numpy.ascontiguousarray(x) instead of Fortran order"));
    }
    if element.endianness() == Endianness::Big {
        return Err(unsupported("save it little-endian"));
    }
    match element.type_char() {
        TypeChar::ByteStr | TypeChar::UnicodeStr => text(&element, shape, data),
        _ => {
            let dtype = datatype(&element)
                .ok_or_else(|| unsupported("save numbers, booleans, or text of fixed width (dtype S or U)"))?;
            Ok(Tensor::from_raw(dtype, shape, data.to_vec().into())?)
        }
    }
}

/// Reads the text of an example: keys as in the archive, `in/<name>` and `out/<name>`. Entries of another form, such as
/// a rendered map, are left out.
///
/// # Errors
/// `NotText` when it is not that JSON, or a tensor error when elements and shape disagree.
pub fn read_strings(json: &[u8]) -> Result<BTreeMap<String, Tensor>, NpzError> {
    let file: StringsFile = serde_json::from_slice(json).map_err(|error| NpzError::NotText(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (side, entries) in [("in", file.inputs), ("out", file.outputs)] {
        for (name, entry) in entries {
            let StringsEntry::Text { shape, data } = entry else { continue };
            tensors.insert(format!("{side}/{name}"), Tensor::from_byte_elements(parse_shape(&shape)?, &data)?);
        }
    }
    Ok(tensors)
}

#[derive(Deserialize)]
struct StringsFile {
    #[serde(rename = "in", default)]
    inputs: BTreeMap<String, StringsEntry>,
    #[serde(rename = "out", default)]
    outputs: BTreeMap<String, StringsEntry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StringsEntry {
    Text { shape: Vec<i64>, data: Vec<String> },
    Other(serde::de::IgnoredAny),
}

fn read_file(path: &Path) -> Result<Vec<u8>, NpzError> {
    let unreadable = |error: std::io::Error| NpzError::Unreadable(error.kind());
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(NpzError::TooLarge { got: size, limit: MAX_BYTES });
    }
    fs::read(path).map_err(unreadable)
}

/// The header and the bytes behind it (NumPy's format 1.0 to 3.0: magic, version, length, a Python literal).
fn read_header(bytes: &[u8]) -> Result<(NpyHeader, &[u8]), NpzError> {
    let bad = |text: &str| NpzError::NotAnArray(text.to_owned());
    let (length, text) = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, text @ ..] => (u32::from_le_bytes([*a, *b, 0, 0]), text),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, text @ ..] => {
            (u32::from_le_bytes([*a, *b, *c, *d]), text)
        }
        _ => return Err(bad("it does not begin as one")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(bad(&format!("a header of {length} bytes, at most {MAX_HEADER_BYTES} are read")));
    }
    let text = text.get(..length as usize).ok_or_else(|| bad("its header is cut off"))?;
    // The header's parser recurses into brackets.
    if text.iter().filter(|byte| matches!(byte, b'(' | b'[' | b'{')).count() > MAX_HEADER_BRACKETS {
        return Err(bad("its header nests too deep"));
    }
    let mut rest = bytes;
    let header = NpyHeader::from_reader(&mut rest).map_err(|error| bad(&error.to_string()))?;
    Ok((header, rest))
}

fn datatype(element: &TypeStr) -> Option<DataType> {
    Some(match (element.type_char(), element.size_field()) {
        (TypeChar::Bool, 1) => DataType::Bool,
        (TypeChar::Int, 1) => DataType::Int8,
        (TypeChar::Int, 2) => DataType::Int16,
        (TypeChar::Int, 4) => DataType::Int32,
        (TypeChar::Int, 8) => DataType::Int64,
        (TypeChar::Uint, 1) => DataType::Uint8,
        (TypeChar::Uint, 2) => DataType::Uint16,
        (TypeChar::Uint, 4) => DataType::Uint32,
        (TypeChar::Uint, 8) => DataType::Uint64,
        (TypeChar::Float, 2) => DataType::Fp16,
        (TypeChar::Float, 4) => DataType::Fp32,
        (TypeChar::Float, 8) => DataType::Fp64,
        _ => return None,
    })
}

/// Text of fixed width, padded with NUL: bytes, or UTF-32 code points, which become UTF-8.
fn text(element: &TypeStr, shape: Vec<usize>, data: &[u8]) -> Result<Tensor, NpzError> {
    let is_unicode = element.type_char() == TypeChar::UnicodeStr;
    let units = usize::try_from(element.size_field()).unwrap_or(usize::MAX);
    let width = units.saturating_mul(if is_unicode { 4 } else { 1 });
    // Elements of no width take no bytes: a header of a hundred bytes could ask for any number of them.
    if width == 0 && element_count(&shape) > 0 {
        return Err(TensorError::ElementCount { expected: element_count(&shape), got: 0, shape }.into());
    }
    let expected = element_count(&shape).saturating_mul(width);
    if data.len() != expected {
        return Err(TensorError::ByteCount { expected, got: data.len(), dtype: DataType::Bytes, shape }.into());
    }
    let cell = |index: usize| &data[index * width..(index + 1) * width];
    let elements = (0..element_count(&shape)).map(cell).map(|cell| match is_unicode {
        false => cell[..cell.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)].to_vec(),
        true => code_points(cell).into_bytes(),
    });
    Ok(Tensor::from_byte_elements(shape, &elements.collect::<Vec<_>>())?)
}

fn code_points(cell: &[u8]) -> String {
    let points = cell.as_chunks::<4>().0.iter().map(|point| u32::from_le_bytes(*point));
    let text: String = points.map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn arrays_of_numbers_become_tensors() {
        let tensor = read_npy(&npy("<i4", "False", "(2, 1)", &[1, 0, 0, 0, 2, 0, 0, 0])).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (DataType::Int32, &[2usize, 1][..]));
        assert_eq!(tensor.elements::<i32>().collect::<Vec<_>>(), [1, 2]);
        let scalar = read_npy(&npy("|b1", "False", "()", &[1])).unwrap();
        assert_eq!((scalar.dtype(), scalar.shape()), (DataType::Bool, &[][..]));
        assert_eq!(read_npy(&npy("<f2", "False", "(0, 4)", &[])).unwrap().shape(), [0, 4]);
    }

    #[test]
    fn text_of_fixed_width_becomes_byte_elements() {
        let bytes = read_npy(&npy("|S3", "False", "(2,)", b"ab\0\0\0\0")).unwrap();
        assert_eq!(bytes.byte_elements().collect::<Vec<_>>(), [&b"ab"[..], b""]);
        let unicode = read_npy(&npy("<U2", "False", "(1,)", &[0xe9, 0, 0, 0, 0, 0, 0, 0])).unwrap();
        assert_eq!(unicode.byte_elements().collect::<Vec<_>>(), ["é".as_bytes()]);
    }

    #[test]
    fn elements_without_width_can_not_ask_for_memory() {
        for descr in ["|S0", "<U0"] {
            assert!(read_npy(&npy(descr, "False", "(9000000000000000,)", &[])).is_err());
            assert_eq!(read_npy(&npy(descr, "False", "(0,)", &[])).unwrap().shape(), [0]);
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let text = |file: Vec<u8>| read_npy(&file).unwrap_err().to_string();
        assert!(text(npy("<f4", "True", "(2, 2)", &[0; 16])).contains("ascontiguousarray"));
        assert!(text(npy(">f4", "False", "(1,)", &[0; 4])).contains("little-endian"));
        assert!(text(npy("|O", "False", "(1,)", &[0; 8])).contains("fixed width"));
        assert_eq!(text(npy("<f4", "False", "(2,)", &[0; 4])), "expected 8 bytes for shape [2] of FP32, got 4");
    }

    #[test]
    fn hostile_files_are_refused_before_they_cost_anything() {
        for (descr, shape) in
            [("<f4", "(99999999999999999999,)"), ("<f4", "(4611686018427387904, 4)"), ("<f4", "(-1,)")]
        {
            assert!(read_npy(&npy(descr, "False", shape, &[])).is_err(), "{shape}");
        }
        assert!(read_npy(&npy("<U4611686018427387904", "False", "(4,)", &[])).is_err());
        assert!(read_npy(&npy("<f4", "False", &"(".repeat(3000), &[])).unwrap_err().to_string().contains("too deep"));
        let claims_4_gib = b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}";
        assert!(read_npy(claims_4_gib).unwrap_err().to_string().contains("header of 4294967295 bytes"));
        assert!(matches!(read_npz(b"PK nonsense"), Err(NpzError::NotAnArchive(_))));
    }

    #[test]
    fn the_text_of_an_example_joins_its_arrays() {
        let json = r#"{"in": {"s": {"shape": [1, 2], "data": ["a", "é"]}}, "out": {"p": {"nontensor": "[{}]"}}}"#;
        let read = read_strings(json.as_bytes()).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read["in/s"].byte_elements().collect::<Vec<_>>(), [&b"a"[..], "é".as_bytes()]);
        assert!(read_strings(br#"{"in": {"s": {"shape": [3], "data": ["a"]}}}"#).is_err());
    }
}
