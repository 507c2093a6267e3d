//! Loops that are compiled twice: for any processor, and for AVX2.

/// A loop over slices that a compiler turns into vectors.
pub trait Loop {
    /// What it is written in, all of it `inline(always)`: what isn't inlined is compiled for any processor.
    fn run(self);
}

/// Runs the loop as it is compiled for the widest vectors that the processor has.
pub fn run(work: impl Loop) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { on_avx2(work) };
    }
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn on_avx2(work: impl Loop) {
    work.run();
}
