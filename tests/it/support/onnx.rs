//! ONNX files made by hand: protobuf with the few fields that a hostile or costly graph needs.
//!
//! Field numbers are those of onnx.proto3 (ONNX IR).

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// y = x + the corner of a matrix of ones, `side` by `side`, multiplied with itself `products` times. The file is small
/// whatever the numbers say.
pub fn ones_matrix(side: u64, products: usize) -> Vec<u8> {
    let mut nodes = vec![node("ConstantOfShape", &["shape"], "m0", &[ones_value()])];
    for step in 0..products {
        nodes.push(node("MatMul", &[&format!("m{step}"), "m0"], &format!("m{}", step + 1), &[]));
    }
    let last = format!("m{products}");
    nodes.push(node("ReduceMax", &[&last], "top", &[integer_attribute("keepdims", 0)]));
    nodes.push(node("Add", &["x", "top"], "y", &[]));
    let shape = [side, side].into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>();
    let shape = Message::default().number(1, 2).number(2, INT64).bytes(8, "shape").bytes(9, shape);
    model(&nodes, &[shape.0])
}

/// y = an operator of ONNX that reads image files, which no engine here has.
pub fn image_decoder() -> Vec<u8> {
    model(&[node("ImageDecoder", &["x"], "y", &[])], &[])
}

fn model(nodes: &[Vec<u8>], initializers: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, node)).bytes(2, "made by hand");
    graph = initializers.iter().fold(graph, |graph, tensor| graph.bytes(5, tensor));
    graph = graph.bytes(11, vector("x")).bytes(12, vector("y"));
    let opset = Message::default().bytes(1, "").number(2, 13);
    Message::default().number(1, 8).bytes(7, graph.0).bytes(8, opset.0).0
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
    let node = node.bytes(2, output).bytes(4, operator);
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute)).0
}

fn integer_attribute(name: &str, value: u64) -> Vec<u8> {
    Message::default().bytes(1, name).number(3, value).number(20, 2).0
}

/// The attribute `value` of ConstantOfShape: 1.
fn ones_value() -> Vec<u8> {
    let one = Message::default().number(1, 1).number(2, FLOAT).bytes(9, 1f32.to_le_bytes());
    Message::default().bytes(1, "value").bytes(5, one.0).number(20, 4).0
}

/// A float tensor of shape [N].
fn vector(name: &str) -> Vec<u8> {
    let dim = Message::default().bytes(2, "N");
    let shape = Message::default().bytes(1, dim.0);
    let tensor = Message::default().number(1, FLOAT).bytes(2, shape.0);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor.0).0).0
}
