//! `ai.onnx.ml.LabelEncoder`: looks each element up among the keys and gives the value at the same place.
//!
//! Version 1 knows texts and their positions, in both directions (`classes_strings`); version 2 lists of texts, integers
//! and floats; version 4 tensors of any type (`keys_tensor`, `values_tensor`, `default_tensor`) and NaN as a key. Where a
//! key occurs twice, the first counts.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::{Built, attributes};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let tables = match attributes::texts(node, "classes_strings")? {
        Some(classes) => {
            let positions = rctensor1(&(0..classes.len() as i64).collect::<Vec<_>>());
            let table = |keys: &Tensor, values: &Tensor| {
                Table::new(keys, values, &default_value(context, node, values.datum_type())?)
            };
            vec![table(&classes, &positions)?, table(&positions, &classes)?]
        }
        None => {
            let (keys, values) = (side(context, node, "keys")?, side(context, node, "values")?);
            vec![Table::new(&keys, &values, &default_value(context, node, values.datum_type())?)?]
        }
    };
    built(node, LabelEncoder { name: "LabelEncoder", tables })
}

/// `ai.onnx.ml.CategoryMapper` (version 1): texts to integers or integers to texts, whichever the input has. tract has it,
/// but refuses a node without a default or with both.
pub fn build_category_mapper(_: &ParsingContext, node: &NodeProto) -> Built {
    let texts = attributes::texts(node, "cats_strings")?.context("attribute 'cats_strings' is missing")?;
    let integers = attributes::integers(node, "cats_int64s")?.context("attribute 'cats_int64s' is missing")?;
    let default_text = node.get_attr_opt::<String>("default_string")?.unwrap_or_else(|| "_Unused".into());
    let default_integer = node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1);
    // Of equal keys the last counts, as in ONNX Runtime, and a table takes the first.
    let texts = tensor1(&texts.try_as_plain_ram()?.as_slice::<String>()?.iter().rev().cloned().collect::<Vec<_>>());
    let integers = tensor1(&integers.try_as_plain_ram()?.as_slice::<i64>()?.iter().rev().copied().collect::<Vec<_>>());
    let tables = vec![
        Table::new(&texts, &integers, &tensor0(default_integer))?,
        Table::new(&integers, &texts, &tensor0(default_text))?,
    ];
    built(node, LabelEncoder { name: "CategoryMapper", tables })
}

/// One of the two lists, in whichever form the node has it.
fn side(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Arc<Tensor>> {
    if let Some(texts) = attributes::texts(node, &format!("{name}_strings"))? {
        return Ok(texts);
    }
    if let Some(integers) = attributes::integers(node, &format!("{name}_int64s"))? {
        return Ok(integers);
    }
    if let Some(floats) = node.get_attr_opt_slice::<f32>(&format!("{name}_floats"))?.filter(|list| !list.is_empty()) {
        return Ok(rctensor1(floats));
    }
    match attributes::tensor(context, node, &format!("{name}_tensor"))? {
        Some(tensor) => Ok(tensor.into_arc_tensor()),
        None => bail!("it has no {name}: no attribute '{name}_strings', '_int64s', '_floats' or '_tensor'"),
    }
}

/// The value for what is not among the keys.
fn default_value(context: &ParsingContext, node: &NodeProto, dt: DatumType) -> TractResult<Tensor> {
    let default = match attributes::tensor(context, node, "default_tensor")? {
        Some(tensor) => tensor,
        None if dt == DatumType::String => {
            tensor0(node.get_attr_opt::<String>("default_string")?.unwrap_or_else(|| "_Unused".into()))
        }
        None if dt.is_float() => tensor0(node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0)),
        None => tensor0(node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1)),
    };
    ensure!(default.len() == 1, "the default has {} elements instead of 1", default.len());
    Ok(default.cast_to_dt(dt)?.into_owned())
}

/// Keys of one type to values of one type.
#[derive(Debug)]
struct Table {
    index: Index,
    /// The values in the order of the keys, and the default behind them.
    values: Tensor,
}

/// Integer keys get a list of places rather than a map where that has at most so many entries for each.
const RANGE_PER_KEY: u64 = 4;
const MISSING: u32 = u32::MAX;

#[derive(Debug)]
enum Index {
    Texts(HashMap<String, usize>),
    Integers(HashMap<i64, usize>),
    /// Integers that lie close together: the place of each from the lowest on, `MISSING` for those between.
    Range {
        lowest: i64,
        places: Vec<u32>,
    },
    /// By the bits of the number as a double, see `float_key`; with the type that inputs are compared in.
    Floats(HashMap<u64, usize>, DatumType),
}

impl Table {
    fn new(keys: &Tensor, values: &Tensor, default: &Tensor) -> TractResult<Self> {
        ensure!(keys.len() == values.len(), "{} keys for {} values", keys.len(), values.len());
        let flat = values.clone().into_shape(&[values.len()])?;
        let default = default.clone().into_shape(&[1])?;
        Ok(Self { index: Index::new(keys)?, values: Tensor::stack_tensors(0, &[flat, default])? })
    }

    fn lookup(&self, input: &Tensor) -> TractResult<Tensor> {
        let places = self.index.places(input, self.values.len() - 1)?;
        macro_rules! pick {
            ($($datum:pat => $t:ty),*) => {
                match self.values.datum_type() {
                    $($datum => pick::<$t>(&self.values, &places, input.shape()),)*
                    other => bail!("values of {other:?} are not supported"),
                }
            };
        }
        pick!(
            DatumType::String => String, DatumType::I64 => i64, DatumType::I32 => i32, DatumType::I16 => i16,
            DatumType::F32 => f32, DatumType::F64 => f64
        )
    }
}

fn pick<T: Datum + Clone>(values: &Tensor, places: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    let view = values.try_as_plain_ram()?;
    let values = view.as_slice::<T>()?;
    let picked: Vec<T> = places.iter().map(|&place| values[place].clone()).collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, picked)?.into())
}

impl Index {
    fn new(keys: &Tensor) -> TractResult<Self> {
        fn map<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
            let mut map = HashMap::new();
            for (place, key) in keys.enumerate() {
                map.entry(key).or_insert(place);
            }
            map
        }
        let dt = keys.datum_type();
        if dt == DatumType::String {
            return Ok(Self::Texts(map(keys.try_as_plain_ram()?.as_slice::<String>()?.iter().cloned())));
        }
        if dt.is_float() {
            let keys = keys.cast_to::<f64>()?;
            let view = keys.try_as_plain_ram()?;
            return Ok(Self::Floats(map(view.as_slice::<f64>()?.iter().map(|&key| float_key(key))), dt));
        }
        let keys = keys.cast_to::<i64>()?;
        let view = keys.try_as_plain_ram()?;
        let keys = view.as_slice::<i64>()?;
        Ok(Self::range(keys).unwrap_or_else(|| Self::Integers(map(keys.iter().copied()))))
    }

    fn range(keys: &[i64]) -> Option<Self> {
        let (lowest, highest) = (*keys.iter().min()?, *keys.iter().max()?);
        let length = highest.abs_diff(lowest).checked_add(1)?;
        if length > RANGE_PER_KEY * keys.len() as u64 || keys.len() >= MISSING as usize {
            return None;
        }
        let mut places = vec![MISSING; length as usize];
        for (place, key) in keys.iter().enumerate().rev() {
            places[key.abs_diff(lowest) as usize] = place as u32;
        }
        Some(Self::Range { lowest, places })
    }

    /// The type that inputs have or are cast to.
    fn datum_type(&self) -> DatumType {
        match self {
            Self::Texts(_) => DatumType::String,
            Self::Integers(_) | Self::Range { .. } => DatumType::I64,
            Self::Floats(_, dt) => *dt,
        }
    }

    /// The place of each element among the keys, `missing` where it is not there.
    fn places(&self, input: &Tensor, missing: usize) -> TractResult<Vec<usize>> {
        let place = |found: Option<&usize>| found.copied().unwrap_or(missing);
        let wide = if matches!(self, Self::Floats(..)) { input.cast_to::<f64>()? } else { Cow::Borrowed(input) };
        let view = wide.try_as_plain_ram()?;
        Ok(match self {
            Self::Texts(map) => view.as_slice::<String>()?.iter().map(|key| place(map.get(key))).collect(),
            Self::Range { lowest, places } => {
                let find = |key: &i64| {
                    let place = key.checked_sub(*lowest).and_then(|place| places.get(usize::try_from(place).ok()?));
                    place.filter(|place| **place != MISSING).map_or(missing, |place| *place as usize)
                };
                view.as_slice::<i64>()?.iter().map(find).collect()
            }
            Self::Integers(map) => view.as_slice::<i64>()?.iter().map(|key| place(map.get(key))).collect(),
            Self::Floats(map, _) => {
                view.as_slice::<f64>()?.iter().map(|&key| place(map.get(&float_key(key)))).collect()
            }
        })
    }
}

/// Equal for equal numbers, for both zeros, and for every NaN.
fn float_key(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// Keys to values, by one table or by one for each type of input.
#[derive(Debug)]
pub struct LabelEncoder {
    name: &'static str,
    tables: Vec<Table>,
}

impl LabelEncoder {
    fn table(&self, input: DatumType) -> TractResult<&Table> {
        let is_text = |dt: DatumType| dt == DatumType::String;
        let fits = self.tables.iter().find(|table| is_text(table.index.datum_type()) == is_text(input));
        fits.with_context(|| format!("its keys are not of the input's type {input:?}"))
    }
}

impl Kernel for LabelEncoder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(self.table(given)?.index.datum_type())
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec!(self.table(input.datum_type)?.values.datum_type().fact(input.shape.clone())))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        Ok(tvec!(self.table(inputs[0].datum_type())?.lookup(&inputs[0])?))
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn texts(values: &[&str]) -> Tensor {
        tensor1(&values.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>())
    }

    fn encoded(node: Node, input: Tensor) -> Tensor {
        run(node, &[input], 1).unwrap().remove(0)
    }

    #[test]
    fn texts_become_integers_and_what_is_unknown_the_default() {
        let node = || Node::new("LabelEncoder").texts("keys_strings", &["a", "b"]).ints("values_int64s", &[10, 20]);
        assert_eq!(encoded(node(), texts(&["b", "c", "a"])), tensor1(&[20i64, -1, 10]));
        assert_eq!(encoded(node().int("default_int64", 7), texts(&["c"])), tensor1(&[7i64]));
    }

    #[test]
    fn integers_become_texts_and_floats_floats() {
        let node = Node::new("LabelEncoder").ints("keys_int64s", &[1, 2]).texts("values_strings", &["one", "two"]);
        assert_eq!(encoded(node, tensor1(&[2i64, 9])), texts(&["two", "_Unused"]));
        let node =
            Node::new("LabelEncoder").floats("keys_floats", &[0.0, f32::NAN]).floats("values_floats", &[5.0, 6.0]);
        assert_eq!(encoded(node, tensor1(&[-0.0f32, f32::NAN, 1.0])), tensor1(&[5.0f32, 6.0, -0.0]));
    }

    #[test]
    fn the_first_of_equal_keys_counts() {
        let node = Node::new("LabelEncoder").ints("keys_int64s", &[1, 1]).ints("values_int64s", &[5, 6]);
        assert_eq!(encoded(node, tensor1(&[1i64])), tensor1(&[5i64]));
    }

    #[test]
    fn integers_near_and_far_apart_are_found() {
        for keys in [[5i64, -3, 9], [i64::MIN, 0, i64::MAX]] {
            let node = Node::new("LabelEncoder").ints("keys_int64s", &keys).ints("values_int64s", &[1, 2, 3]);
            let asked = tensor1(&[keys[0], keys[1], keys[2], 4, i64::MAX - 1, i64::MIN + 1]);
            assert_eq!(encoded(node, asked), tensor1(&[1i64, 2, 3, -1, -1, -1]));
        }
    }

    #[test]
    fn tensors_serve_as_keys_and_values() {
        let node = Node::new("LabelEncoder").doubles("keys_tensor", &[0.1, 0.2]).doubles("values_tensor", &[1.5, 2.5]);
        assert_eq!(encoded(node.doubles("default_tensor", &[9.0]), tensor1(&[0.2f64, 0.3])), tensor1(&[2.5f64, 9.0]));
    }

    #[test]
    fn version_1_goes_both_ways() {
        let node = || Node::new("LabelEncoder").texts("classes_strings", &["a", "b"]).text("default_string", "?");
        assert_eq!(encoded(node(), texts(&["b", "x"])), tensor1(&[1i64, -1]));
        assert_eq!(encoded(node(), tensor1(&[0i64, 5])), texts(&["a", "?"]));
    }

    #[test]
    fn inconsistent_attributes_are_refused() {
        let short = Node::new("LabelEncoder").ints("keys_int64s", &[1, 2]).ints("values_int64s", &[1]);
        let error = run(short, &[tensor1(&[1i64])], 1).unwrap_err();
        assert!(format!("{error:#}").contains("2 keys for 1 values"), "{error:#}");
        assert!(run(Node::new("LabelEncoder").ints("keys_int64s", &[1]), &[tensor1(&[1i64])], 1).is_err());
    }
}
