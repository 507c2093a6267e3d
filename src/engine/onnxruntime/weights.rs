//! The weights of an optimised graph, read once for all sessions.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ort::value::DynValue;
use prost::Message;
use tract_onnx::pb::{ModelProto, TensorProto};

use super::convert::to_owned_value;
use super::folder::Folder;
use crate::engine::onnx::{datatype, graphs};
use crate::tensor::{DataType, Tensor};

/// The name of the file of weights beside the optimised graph.
pub const FILE: &str = "weights.bin";
/// Weights of fewer bytes stay in the graph.
pub const MIN_BYTES: usize = 1024;

/// Weights by name.
pub struct Weights {
    pub values: Vec<(String, Arc<DynValue>)>,
    pub bytes: u64,
}

/// Why weights are not shared.
#[derive(Debug, thiserror::Error)]
pub enum Unshared {
    #[error("the optimised graph can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("the optimised graph is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    #[error("weights '{name}': {cause}")]
    Weights { name: String, cause: String },
}

impl Weights {
    /// Reads the weights that ONNX Runtime has written, and empties their file where none are left in it.
    ///
    /// # Errors
    /// `Unshared`.
    pub fn take(folder: &Folder) -> Result<Self, Unshared> {
        let graph = ModelProto::decode(fs::read(folder.graph())?.as_slice())?;
        let path = folder.path().join(FILE);
        let mut taken = Self { values: vec![], bytes: 0 };
        // Where no weights were large enough there is no such file.
        let Ok(file) = File::open(&path) else { return Ok(taken) };
        let all: usize =
            graph.graph.iter().flat_map(graphs).map(|graph| graph.initializer.iter().filter(is_outside).count()).sum();
        // Only the outermost graph's may be lent to a session.
        for tensor in graph.graph.iter().flat_map(|graph| &graph.initializer).filter(is_outside) {
            let refused = |cause: String| Unshared::Weights { name: tensor.name.clone(), cause };
            let Some(dtype) =
                datatype(tensor.data_type).filter(|dtype| !matches!(dtype, DataType::Bool | DataType::Bytes))
            else {
                continue;
            };
            let weights = read(&file, tensor, dtype).map_err(refused)?;
            taken.bytes += weights.data().len() as u64;
            let value = to_owned_value(&weights).map_err(|cause| refused(cause.to_string()))?;
            taken.values.push((tensor.name.clone(), Arc::new(value)));
        }
        if taken.values.len() == all {
            // The name must stay: ONNX Runtime looks for it even where it is lent the weights.
            File::create(path)?;
        }
        Ok(taken)
    }
}

fn is_outside(tensor: &&TensorProto) -> bool {
    !tensor.external_data.is_empty()
}

fn read(file: &File, tensor: &TensorProto, dtype: DataType) -> Result<Tensor, String> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key);
    let number = |key: &str| entry(key).map_or(Some(0), |entry| entry.value.parse::<u64>().ok());
    let (Some(offset), Some(length)) = (number("offset"), number("length")) else {
        return Err("its place in the file is no number".to_owned());
    };
    let size = file.metadata().map_err(|cause| cause.to_string())?.len();
    let length = usize::try_from(length).ok().filter(|_| offset.checked_add(length).is_some_and(|end| end <= size));
    let mut data = vec![0; length.ok_or("it lies beyond the file's end")?];
    file.read_exact_at(&mut data, offset).map_err(|cause| cause.to_string())?;
    let shape = tensor.dims.iter().map(|&size| usize::try_from(size)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| "a dimension is negative")?;
    Tensor::from_raw(dtype, shape, data.into()).map_err(|cause| cause.to_string())
}
