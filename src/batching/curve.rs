//! Stand-in.
#[derive(Debug)]
pub struct BatchCurve { pub cap: usize }
impl BatchCurve {
    pub fn unmeasured() -> Self { Self { cap: 1 } }
    pub fn flat(cap: usize) -> Self { Self { cap } }
    pub fn best_cut(&self, rows: usize) -> usize { rows.min(self.cap) }
    pub fn run_rows(&self, rows: usize) -> usize { rows }
}
