//! What is known of a label at a moment. The live figures and training sets go by the same rule. Pure.

/// What is known of a prediction's label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing<T> {
    Known(T),
    /// Known from then on, Unix time in µs, whatever comes until then.
    Due(i64),
    Unknown,
}

/// What a prediction of which nothing was told is so long after it was shown, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Implicit<T> {
    pub after_us: i64,
    pub negative: T,
}

/// Where things stand at `now_us`. `told`: the latest label; `shown_us`: when the prediction was shown first; Unix times in
/// µs. With implicit negatives a label of either kind counts from the same time on, or the quick ones, which are positive,
/// would be too many among the young. A label that comes later takes the place of the implicit one.
pub fn standing<T>(told: Option<T>, shown_us: Option<i64>, implicit: Option<Implicit<T>>, now_us: i64) -> Standing<T> {
    let Some(Implicit { after_us, negative }) = implicit else {
        return told.map_or(Standing::Unknown, Standing::Known);
    };
    match shown_us.map(|shown_us| shown_us.saturating_add(after_us)) {
        None => Standing::Unknown,
        Some(due_us) if now_us < due_us => Standing::Due(due_us),
        Some(_) => Standing::Known(told.unwrap_or(negative)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_known_when_its_time_is_over_and_negative_if_nothing_was_told() {
        let implicit = Some(Implicit { after_us: 10, negative: 'n' });
        for (told, shown_us, implicit, now_us, expected) in [
            (None, Some(5), None, 99, Standing::Unknown),
            (Some('y'), None, None, 0, Standing::Known('y')),
            (Some('y'), None, implicit, 99, Standing::Unknown),
            (None, Some(5), implicit, 14, Standing::Due(15)),
            (Some('y'), Some(5), implicit, 14, Standing::Due(15)),
            (None, Some(5), implicit, 15, Standing::Known('n')),
            (Some('y'), Some(5), implicit, 15, Standing::Known('y')),
            (None, Some(i64::MAX), implicit, 15, Standing::Due(i64::MAX)),
        ] {
            assert_eq!(standing(told, shown_us, implicit, now_us), expected, "{told:?} {shown_us:?} {now_us}");
        }
    }
}
