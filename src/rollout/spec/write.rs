use super::RolloutSpec;
impl RolloutSpec {
    /// The spec as a document that [`super::read`] takes, with every default written out.
    pub fn to_value(&self) -> serde_json::Value {
        todo!()
    }
}
