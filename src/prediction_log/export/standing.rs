//! Whether a row has a label at the moment of the export, by the rule of realised quality.

use super::labels::{Said, Told};
use super::{Export, LabelType};
use crate::prediction_log::settings::Exposure;
use crate::prediction_log::standing_policy::{Implicit, Standing, standing};

/// The label of a row of the training set; `None` for one that is negative because nothing was told in time.
pub type RowLabel<'l> = Option<&'l Told>;

impl Export {
    /// The label of a prediction that ended then, Unix time in µs.
    ///
    /// # Errors
    /// Why it has none, or none that is wanted.
    pub(super) fn label_of<'l>(&self, said: &Said<'l>, ended_us: i64) -> Result<RowLabel<'l>, &'static str> {
        let shown_us = match self.negatives.as_ref().map(|negatives| &negatives.exposure) {
            // As live quality has it: what was answered by a clock that goes behind was seen before it ended.
            Some(Exposure::Assumed) => Some(said.seen_us.map_or(ended_us, |seen_us| seen_us.min(ended_us))),
            Some(Exposure::Feedback(_)) | None => said.seen_us,
        };
        let implicit = self.negatives.as_ref();
        let implicit = implicit.map(|negatives| Implicit { after_us: negatives.after_us, negative: None });
        match standing(said.told.map(Some), shown_us, implicit, self.as_of_us) {
            Standing::Unknown => Err("unlabelled"),
            Standing::Due(_) => Err("too_young"),
            Standing::Known(Some(told)) if self.label_type == Some(LabelType::Number) && told.is_text() => {
                Err("text_label")
            }
            Standing::Known(label) => Ok(label),
        }
    }
}
