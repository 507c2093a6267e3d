//! Reading predictions and segments out of tensors.

use half::{bf16, f16};

use super::outcome::{Class, MAX_CLASSES, Prediction};
use super::plan::Plan;
use crate::prediction_log::columns::is_float;
use crate::prediction_log::settings::Task;
use crate::tensor::{DataType, Element, Tensor};

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
    /// Where a tensor holds texts; numbers are read where they are needed, of which a segment needs one a row.
    texts: Vec<&'a [u8]>,
}

impl<'a> Column<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        Self { tensor, texts: tensor.byte_elements().collect() }
    }

    /// Elements of a row: all there are without an axis; none of a row that the tensor does not have.
    fn row_elements(&self, axis: Option<usize>, row: usize) -> usize {
        match self.size_along(axis) {
            None => self.tensor.element_count(),
            Some(size) if row < size => self.tensor.element_count() / size,
            Some(_) => 0,
        }
    }

    /// The place of one of a row's elements, row-major.
    fn place(&self, axis: Option<usize>, row: usize, element: usize) -> Option<usize> {
        if element >= self.row_elements(axis, row) {
            return None;
        }
        let (Some(size), Some(axis)) = (self.size_along(axis), axis) else { return Some(element) };
        let inner: usize = self.tensor.shape()[axis + 1..].iter().product();
        Some((element / inner * size + row) * inner + element % inner)
    }

    /// `None` where rows don't lie along an axis.
    fn size_along(&self, axis: Option<usize>) -> Option<usize> {
        self.tensor.shape().get(axis?).copied()
    }

    /// Size of a row's last dimension; 1 where a row has none.
    fn last_size(&self, axis: Option<usize>) -> usize {
        let mut of_row = self.tensor.shape().iter().enumerate().filter(|(at, _)| Some(*at) != axis);
        of_row.next_back().map_or(1, |(_, size)| *size)
    }

    fn prediction(&self, plan: &Plan, row: usize) -> Option<Prediction> {
        let count = self.row_elements(plan.axis, row);
        // Several distributions or numbers in one row are none of its own.
        if count != self.last_size(plan.axis) {
            return None;
        }
        let only = || self.place(plan.axis, row, 0).filter(|_| count == 1);
        if self.tensor.dtype() == DataType::Bytes {
            let text = String::from_utf8_lossy(self.texts.get(only()?)?);
            return Some(of_class(Some(Class::named(&plan.classes, &text))));
        }
        let scored = |score| Prediction { class: None, score, probabilities: None };
        match plan.settings.task {
            Task::Classification if is_float(self.tensor.dtype()) => {
                let places = (0..count).filter_map(|element| self.place(plan.axis, row, element));
                classified(&places.filter_map(|place| number(self.tensor, place)).collect::<Vec<f64>>())
            }
            Task::Classification => {
                Some(of_class(Some(Class::of_number(&plan.classes, number(self.tensor, only()?)?))))
            }
            Task::Regression => Some(scored(number(self.tensor, only()?)?)),
            // Of two the second is that of yes.
            Task::Click if (1..=2).contains(&count) => {
                Some(scored(number(self.tensor, self.place(plan.axis, row, count - 1)?)?))
            }
            Task::Click => None,
        }
    }

    fn text(&self, axis: Option<usize>, row: usize, element: usize) -> Option<String> {
        let place = self.place(axis, row, element)?;
        let mut text = match self.tensor.dtype() {
            DataType::Bytes => String::from_utf8_lossy(self.texts.get(place)?).into_owned(),
            DataType::Bool => (number(self.tensor, place)? != 0.0).to_string(),
            // As it was given, not with the digits that a wider type adds.
            DataType::Fp64 => number(self.tensor, place)?.to_string(),
            _ => {
                let number = number(self.tensor, place)?;
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

/// An element of a tensor of numbers; integers beyond 2^53 are rounded.
fn number(tensor: &Tensor, place: usize) -> Option<f64> {
    let size = tensor.dtype().size()?;
    let raw = tensor.data().get(place * size..(place + 1) * size)?;
    Some(match tensor.dtype() {
        DataType::Bytes => return None,
        DataType::Bool | DataType::Uint8 => u8::read_le(raw).into(),
        DataType::Int8 => i8::read_le(raw).into(),
        DataType::Int16 => i16::read_le(raw).into(),
        DataType::Int32 => i32::read_le(raw).into(),
        DataType::Int64 => i64::read_le(raw) as f64,
        DataType::Uint16 => u16::read_le(raw).into(),
        DataType::Uint32 => u32::read_le(raw).into(),
        DataType::Uint64 => u64::read_le(raw) as f64,
        DataType::Fp16 => f16::read_le(raw).into(),
        DataType::Bf16 => bf16::read_le(raw).into(),
        DataType::Fp32 => f32::read_le(raw).into(),
        DataType::Fp64 => f64::read_le(raw),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::quality::plan::Segment;
    use crate::prediction_log::quality::tests;
    use crate::prediction_log::settings::QualitySettings;

    fn plan(task: Task, axis: Option<usize>, classes: &[&str]) -> Plan {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        Plan { axis, classes, ..Plan::clone(&tests::plan(QualitySettings::of(task))) }
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
        let two_rows_in_one = floats(&[2, 2], &[0.9, 0.1, 0.5, 0.5]);
        assert_eq!(read(&plan(Task::Classification, None, &[]), two_rows_in_one, 1), [None]);
        let whole = read(&plan(Task::Classification, None, &[]), floats(&[1, 2], &[0.9, 0.1]), 1);
        assert_eq!(whole[0].as_ref().unwrap().class, Some(Class::NEGATIVE));
        let click = read(&plan(Task::Click, Some(0), &[]), floats(&[2, 2], &[0.9, 0.1, 0.5, 0.5]), 2);
        assert_eq!(click.iter().map(|row| row.as_ref().unwrap().score).collect::<Vec<_>>(), [f64::from(0.1f32), 0.5]);
        assert!(instances(&plan(Task::Regression, None, &[]), &[], &[], 1)[0].prediction.is_none());
    }

    #[test]
    fn an_element_is_found_along_any_axis() {
        let count = 2 * 3 * 4;
        let numbers: Vec<f32> = (0..count).map(|n| n as f32).collect();
        let tensor = floats(&[2, 3, 4], &numbers);
        let column = Column::of(&tensor);
        let shape = [2, 3, 4];
        for axis in 0..3 {
            // In a row's own order: that of the whole without what other rows have.
            let strides = [12, 4, 1];
            for row in 0..shape[axis] {
                let own: Vec<usize> = (0..count).filter(|place| place / strides[axis] % shape[axis] == row).collect();
                assert_eq!(column.row_elements(Some(axis), row), own.len());
                let found: Vec<usize> = (0..own.len()).map(|at| column.place(Some(axis), row, at).unwrap()).collect();
                assert_eq!(found, own, "axis {axis}, row {row}");
                assert_eq!(column.place(Some(axis), row, own.len()), None);
            }
            assert_eq!(column.place(Some(axis), shape[axis], 0), None, "no such row");
        }
        assert_eq!((column.place(None, 7, 23), column.place(None, 0, 24)), (Some(23), None));
        assert_eq!(Column::of(&floats(&[0, 3], &[])).place(Some(0), 0, 0), None);
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
