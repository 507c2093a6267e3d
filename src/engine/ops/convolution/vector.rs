//! The processor's vectors of FP32, and how a loop that is written once for any of them runs on the widest.
//!
//! All methods of [`Vector`] but the scalar's are of an instruction set that not every processor has: they are called only
//! below [`Simd::run`], which is made only where the processor has it.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps,
    _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};

/// A vector of FP32.
///
/// # Safety of its methods
/// The processor has the vector's instructions, and pointers have [`Self::LANES`] floats to read or to write.
pub trait Vector: Copy {
    /// Floats in it.
    const LANES: usize;
    /// The next narrower vector; the narrowest's is itself.
    type Half: Vector;

    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    /// self * by + plus
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// The greater, and `other` where one of them is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// The lesser, and `other` where one of them is not a number.
    unsafe fn min(self, other: Self) -> Self;
}

/// A loop over vectors.
pub trait Work {
    /// # Safety
    /// The processor has the instructions of `V` and of its halves.
    unsafe fn run<V: Vector>(&self);
}

/// The vectors that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    #[cfg(target_arch = "x86_64")]
    Avx512(Proven),
    #[cfg(target_arch = "x86_64")]
    Avx2(Proven),
}

/// That the processor was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven(());

impl Simd {
    /// All that this processor has, the widest first; none where there are no kernels for it.
    pub fn all() -> Vec<Self> {
        let mut all = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512(Proven(())));
            }
            if avx2 {
                all.push(Self::Avx2(Proven(())));
            }
        }
        all
    }

    /// Floats in its vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => __m512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => __m256::LANES,
        }
    }

    /// Does the work with this vector.
    pub fn run(self, work: &impl Work) {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = work;
        match self {
            // SAFETY: only `all` makes these, having found the instructions that the functions are compiled for.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => unsafe { on_avx512(work) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => unsafe { on_avx2(work) },
        }
    }
}

// What is called below these is `inline(always)`, so that it is compiled for their instructions.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn on_avx512(work: &impl Work) {
    // SAFETY: as the attribute says, the processor has the instructions of the vector and its half.
    unsafe { work.run::<__m512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn on_avx2(work: &impl Work) {
    // SAFETY: as the attribute says, the processor has the instructions of the vector.
    unsafe { work.run::<__m256>() }
}

macro_rules! vector {
    ($vector:ty, $half:ty, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fma:ident, $add:ident, $max:ident, $min:ident) => {
        #[cfg(target_arch = "x86_64")]
        impl Vector for $vector {
            const LANES: usize = $lanes;
            type Half = $half;

            // SAFETY of all: the caller's promises are what the instructions ask for.
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                unsafe { $splat(value) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
                unsafe { $fma(self, by, plus) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                unsafe { $max(self, other) }
            }

            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                unsafe { $min(self, other) }
            }
        }
    };
}

vector!(
    __m512,
    __m256,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_max_ps,
    _mm512_min_ps
);
vector!(
    __m256,
    f32,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_max_ps,
    _mm256_min_ps
);

/// One float, for what is left over.
impl Vector for f32 {
    const LANES: usize = 1;
    type Half = Self;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *to = self }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        Self::mul_add(self, by, plus)
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        if self < other { self } else { other }
    }
}
