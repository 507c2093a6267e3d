//! The wire's messages, generated from proto/ by build.rs.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// Package `inference`: the Open Inference Protocol and Triton's model configuration.
pub mod inference {
    tonic::include_proto!("inference");
}

/// Package `headgate.v1`: feedback.
pub mod headgate {
    /// Its first version.
    pub mod v1 {
        tonic::include_proto!("headgate.v1");
    }
}

/// Every file of proto/ and what it imports, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headgate_descriptor.bin"));

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("build.rs wrote a valid descriptor set"));

/// The description of message `inference.ModelConfig`.
pub fn model_config_descriptor() -> MessageDescriptor {
    POOL.get_message_by_name("inference.ModelConfig").expect("proto/model_config.proto defines it")
}
