//! The wire's messages, generated from proto/ by build.rs.

/// Package `inference`: the Open Inference Protocol and Triton's model configuration.
pub mod inference {
    tonic::include_proto!("inference");
}

/// Every file of proto/ and what it imports, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headgate_descriptor.bin"));
