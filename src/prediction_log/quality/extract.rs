//! Reading predictions and segments out of tensors.

use half::{bf16, f16};

use super::outcome::{Class, MAX_CLASSES, Prediction};
use super::plan::Plan;
use crate::prediction_log::settings::Task;
use crate::tensor::{DataType, Tensor};

/// Longest value of a segment, in bytes; the rest of a longer one is cut off.
const MAX_SEGMENT_BYTES: usize = 64;
/// From this score on a single probability means the positive class.
const HALF: f64 = 0.5;
/// Probabilities may sum to 1 with this much rounding, as half precision has it.
const SUM_SLACK: f64 = 0.01;

/// One instance of a request as quality sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// `None` where the answer can't be read as the task's.
    pub prediction: Option<Prediction>,
    /// Values of the plan's segments.
    pub segments: Vec<String>,
}

/// The instances of a request, in its order. `inputs` and `outputs` are in the signature's.
pub fn instances(plan: &Plan, inputs: &[Tensor], outputs: &[Tensor], rows: usize) -> Vec<Instance> {
    let output = outputs.get(plan.output).map(Column::of);
    let columns: Vec<Option<Column<'_>>> =
        plan.segments.iter().map(|segment| inputs.get(segment.input).map(Column::of)).collect();
    let segments = |row: usize| {
        let of = plan.segments.iter().zip(&columns);
        of.map(|(segment, column)| {
            let column = column.as_ref();
            column.and_then(|column| column.text(segment.axis, row, segment.element)).unwrap_or_default()
        })
        .collect()
    };
    let instance = |row| Instance {
        prediction: output.as_ref().and_then(|output| output.prediction(plan, row)),
        segments: segments(row),
    };
    (0..rows).map(instance).collect()
}

/// A tensor whose elements can be told apart by row.
struct Column<'a> {
    tensor: &'a Tensor,
    elements: Elements<'a>,
}

enum Elements<'a> {
    Numbers(Vec<f64>),
    Texts(Vec<&'a [u8]>),
}

impl<'a> Column<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        let elements = match numbers(tensor) {
            Some(numbers) => Elements::Numbers(numbers),
            None => Elements::Texts(tensor.byte_elements().collect()),
        };
        Self { tensor, elements }
    }

    /// The places of a row's elements: all there are without an axis.
    fn places(&self, axis: Option<usize>, row: usize) -> Vec<usize> {
        let shape = self.tensor.shape();
        let Some((axis, size)) = axis.and_then(|axis| Some((axis, *shape.get(axis)?))) else {
            return (0..self.tensor.element_count()).collect();
        };
        let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        let of_outer = |outer: usize| (outer * size + row) * inner..(outer * size + row + 1) * inner;
        if row < size { (0..outer).flat_map(of_outer).collect() } else { vec![] }
    }

    fn prediction(&self, plan: &Plan, row: usize) -> Option<Prediction> {
        let places = self.places(plan.axis, row);
        let is_float = matches!(self.tensor.dtype(), DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64);
        match &self.elements {
            Elements::Texts(texts) => {
                let [place] = places[..] else { return None };
                let text = String::from_utf8_lossy(texts.get(place)?);
                Some(of_class(Some(Class::named(&plan.classes, &text))))
            }
            Elements::Numbers(numbers) => {
                let row: Vec<f64> = places.iter().filter_map(|place| numbers.get(*place).copied()).collect();
                match plan.settings.task {
                    Task::Classification if is_float => classified(&row),
                    Task::Classification => match row[..] {
                        [number] => Some(of_class(Some(Class::of_number(&plan.classes, number)))),
                        _ => None,
                    },
                    Task::Regression => match row[..] {
                        [number] => Some(Prediction { class: None, score: number, probabilities: None }),
                        _ => None,
                    },
                    Task::Click => match row[..] {
                        [score] | [_, score] => Some(Prediction { class: None, score, probabilities: None }),
                        _ => None,
                    },
                }
            }
        }
    }

    fn text(&self, axis: Option<usize>, row: usize, element: usize) -> Option<String> {
        let place = *self.places(axis, row).get(element)?;
        let mut text = match &self.elements {
            Elements::Texts(texts) => String::from_utf8_lossy(texts.get(place)?).into_owned(),
            // As it was given, not with the digits that a wider type adds.
            Elements::Numbers(numbers) if self.tensor.dtype() == DataType::Fp64 => numbers.get(place)?.to_string(),
            Elements::Numbers(numbers) if self.tensor.dtype() == DataType::Bool => {
                (*numbers.get(place)? != 0.0).to_string()
            }
            Elements::Numbers(numbers) => {
                let number = *numbers.get(place)?;
                if f64::from(number as f32) == number { (number as f32).to_string() } else { number.to_string() }
            }
        };
        let end = text.floor_char_boundary(MAX_SEGMENT_BYTES);
        text.truncate(end);
        Some(text)
    }
}

fn of_class(class: Option<Class>) -> Prediction {
    Prediction { class, score: f64::NAN, probabilities: None }
}

/// A row of scores: one is the probability of the positive class, several are the classes', the first of equals wins.
fn classified(row: &[f64]) -> Option<Prediction> {
    match row {
        [] => None,
        [score] if score.is_nan() => Some(of_class(None)),
        [score] => {
            let class = if *score >= HALF { Class::POSITIVE } else { Class::NEGATIVE };
            Some(Prediction { class: Some(class), score: *score, probabilities: None })
        }
        row => {
            let better = |best: Option<usize>, at: usize| match best {
                Some(best) if row[at] <= row[best] || row[at].is_nan() => Some(best),
                _ if row[at].is_nan() => None,
                _ => Some(at),
            };
            let class = (0..row.len()).fold(None, better).map(Class::at);
            let is_probability = |p: &f64| (0.0..=1.0 + SUM_SLACK).contains(p);
            let are_probabilities =
                row.iter().all(is_probability) && (row.iter().sum::<f64>() - 1.0).abs() <= SUM_SLACK;
            Some(match row {
                [_, positive] if are_probabilities => {
                    Prediction { class, score: positive.min(1.0), probabilities: None }
                }
                row if are_probabilities && row.len() > 2 && row.len() <= MAX_CLASSES => {
                    Prediction { class, score: f64::NAN, probabilities: Some(row.iter().map(|p| *p as f32).collect()) }
                }
                _ => of_class(class),
            })
        }
    }
}

/// The elements of a tensor of numbers; integers beyond 2^53 are rounded.
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.dtype() {
        DataType::Bytes => return None,
        DataType::Bool | DataType::Uint8 => tensor.elements::<u8>().map(f64::from).collect(),
        DataType::Int8 => tensor.elements::<i8>().map(f64::from).collect(),
        DataType::Int16 => tensor.elements::<i16>().map(f64::from).collect(),
        DataType::Int32 => tensor.elements::<i32>().map(f64::from).collect(),
        DataType::Int64 => tensor.elements::<i64>().map(|number| number as f64).collect(),
        DataType::Uint16 => tensor.elements::<u16>().map(f64::from).collect(),
        DataType::Uint32 => tensor.elements::<u32>().map(f64::from).collect(),
        DataType::Uint64 => tensor.elements::<u64>().map(|number| number as f64).collect(),
        DataType::Fp16 => tensor.elements::<f16>().map(f64::from).collect(),
        DataType::Bf16 => tensor.elements::<bf16>().map(f64::from).collect(),
        DataType::Fp32 => tensor.elements::<f32>().map(f64::from).collect(),
        DataType::Fp64 => tensor.elements::<f64>().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::quality::plan::Segment;
    use crate::prediction_log::settings::{Exposure, QualitySettings};

    fn plan(task: Task, axis: Option<usize>, classes: &[&str]) -> Plan {
        let settings = QualitySettings {
            task,
            output: None,
            feedback: "label".into(),
            segments: vec![],
            negative_after: None,
            exposure: Exposure::Assumed,
            tolerance: None,
        };
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        Plan {
            settings,
            output: 0,
            output_name: "y".into(),
            output_column: Some("out_y".into()),
            axis,
            classes,
            segments: vec![],
        }
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_elements(DataType::Fp32, shape.to_vec(), values).unwrap()
    }

    fn read(plan: &Plan, output: Tensor, rows: usize) -> Vec<Option<Prediction>> {
        instances(plan, &[], &[output], rows).into_iter().map(|instance| instance.prediction).collect()
    }

    #[test]
    fn the_class_is_the_largest_of_its_row_whatever_the_axis() {
        let by_row =
            read(&plan(Task::Classification, Some(0), &[]), floats(&[2, 3], &[0.2, 0.5, 0.3, 0.5, 0.5, 0.0]), 2);
        let classes: Vec<_> = by_row.iter().map(|row| row.as_ref().unwrap().class.unwrap()).collect();
        assert_eq!(classes, [Class::at(1), Class::at(0)], "the first of equals");
        assert_eq!(by_row[0].as_ref().unwrap().probabilities.as_deref(), Some([0.2, 0.5, 0.3].as_slice()));
        let turned = floats(&[3, 2], &[0.2, 0.5, 0.5, 0.5, 0.3, 0.0]);
        let by_column = read(&plan(Task::Classification, Some(1), &[]), turned, 2);
        // Their scores are NaN.
        assert_eq!(format!("{by_column:?}"), format!("{by_row:?}"));
    }

    #[test]
    fn two_classes_have_a_score_where_they_are_probabilities() {
        let of =
            |values: &[f32]| read(&plan(Task::Classification, Some(0), &[]), floats(&[1, values.len()], values), 1);
        let both = of(&[0.25, 0.75]).remove(0).unwrap();
        assert_eq!((both.class, both.score), (Some(Class::POSITIVE), 0.75));
        let one = of(&[0.25]).remove(0).unwrap();
        assert_eq!((one.class, one.score), (Some(Class::NEGATIVE), 0.25));
        let scores = of(&[-3.0, 5.0]).remove(0).unwrap();
        assert!(scores.class == Some(Class::POSITIVE) && scores.score.is_nan());
        assert_eq!(of(&[f32::NAN, f32::NAN]).remove(0).unwrap().class, None);
        assert_eq!(of(&[f32::NAN, 0.1]).remove(0).unwrap().class, Some(Class::at(1)));
        assert_eq!(of(&[f32::NAN]).remove(0).unwrap().class, None);
    }

    #[test]
    fn an_output_may_be_the_class_itself() {
        let labels = Tensor::from_elements(DataType::Int64, vec![2], &[5i64, -1]).unwrap();
        let named = read(&plan(Task::Classification, Some(0), &["3", "5"]), labels, 2);
        assert_eq!(named[0].as_ref().unwrap().class, Some(Class::at(1)));
        assert_eq!(named[1].as_ref().unwrap().class.unwrap().place(), None);
        let texts = Tensor::from_byte_elements(vec![2, 1], &["dog", "cat"]).unwrap();
        let named = read(&plan(Task::Classification, Some(0), &["cat", "dog"]), texts, 2);
        assert_eq!(
            named.iter().map(|row| row.as_ref().unwrap().class.unwrap()).collect::<Vec<_>>(),
            [1, 0].map(Class::at)
        );
    }

    #[test]
    fn an_answer_of_another_size_is_not_read() {
        assert_eq!(read(&plan(Task::Regression, Some(0), &[]), floats(&[1, 2], &[1.0, 2.0]), 1), [None]);
        assert_eq!(read(&plan(Task::Regression, Some(0), &[]), floats(&[1, 1], &[1.0]), 2)[1], None);
        let click = read(&plan(Task::Click, Some(0), &[]), floats(&[2, 2], &[0.9, 0.1, 0.5, 0.5]), 2);
        assert_eq!(click.iter().map(|row| row.as_ref().unwrap().score).collect::<Vec<_>>(), [f64::from(0.1f32), 0.5]);
        assert!(instances(&plan(Task::Regression, None, &[]), &[], &[], 1)[0].prediction.is_none());
    }

    #[test]
    fn segments_are_written_as_they_were_given() {
        let segment = |input, element| Segment { column: String::new(), input, axis: Some(0), element };
        let plan = Plan {
            segments: vec![segment(0, 1), segment(1, 0), segment(2, 0)],
            ..plan(Task::Regression, Some(0), &[])
        };
        let inputs = [
            floats(&[2, 2], &[0.0, 0.1, 0.0, 3.0]),
            Tensor::from_byte_elements(vec![2], &["é".repeat(40).as_str(), "eu"]).unwrap(),
            Tensor::from_elements(DataType::Bool, vec![2], &[1u8, 0]).unwrap(),
        ];
        let found = instances(&plan, &inputs, &[floats(&[2], &[1.0, 2.0])], 2);
        assert_eq!(found[0].segments, ["0.1".to_owned(), "é".repeat(32), "true".to_owned()]);
        assert_eq!(found[1].segments, ["3", "eu", "false"]);
    }
}
