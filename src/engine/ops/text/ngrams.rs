//! Finds the n-grams of a pool in a row of tokens.

use std::collections::HashMap;

use tract_onnx::tract_hir::internal::*;

/// A token that is not in the pool.
const UNKNOWN: u32 = u32::MAX;
const ROOT: u32 = 0;

/// The n-grams of a pool as a tree of tokens; each has a number from 0 in the order of the pool.
#[derive(Debug, Default)]
pub struct NGrams {
    /// From a place in the tree and a token to the next place.
    next: HashMap<(u32, u32), u32>,
    /// The number of the n-gram that ends at each place.
    ending: Vec<Option<u32>>,
}

/// Which n-grams are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    /// Tokens of the shortest and of the longest, from 1 on.
    pub min: usize,
    pub max: usize,
    /// How many tokens may be left out between two of an n-gram's, the same number each time.
    pub max_skip: usize,
}

impl NGrams {
    /// `pool` holds tokens by number; `starts` says where the 1-grams begin, the 2-grams and so on.
    ///
    /// # Errors
    /// Where a length's part is not a whole number of n-grams, or one occurs twice among those that are looked for.
    pub fn new(pool: &[u32], starts: &[usize], lengths: Lengths) -> TractResult<Self> {
        let mut ngrams = Self { next: HashMap::new(), ending: vec![None] };
        let mut number = 0u32;
        for (index, &start) in starts.iter().enumerate() {
            let length = index + 1;
            let end = starts.get(index + 1).copied().unwrap_or(pool.len());
            let part = pool.get(start..end).context("attribute 'ngram_counts' doesn't rise to the pool's end")?;
            ensure!(
                part.len().is_multiple_of(length),
                "attribute 'ngram_counts': {} tokens are no whole number of n-grams of {length}",
                part.len()
            );
            for ngram in part.chunks_exact(length) {
                if (lengths.min..=lengths.max).contains(&length) {
                    ngrams.insert(ngram, number)?;
                }
                number += 1;
            }
        }
        Ok(ngrams)
    }

    /// What it takes, without what the tables keep free.
    pub fn held_bytes(&self) -> usize {
        self.next.len() * size_of::<((u32, u32), u32)>() + self.ending.len() * size_of::<Option<u32>>()
    }

    fn insert(&mut self, ngram: &[u32], number: u32) -> TractResult<()> {
        let mut place = ROOT;
        for &token in ngram {
            let fresh = u32::try_from(self.ending.len())?;
            place = *self.next.entry((place, token)).or_insert(fresh);
            if place == fresh {
                self.ending.push(None);
            }
        }
        let ending = &mut self.ending[place as usize];
        ensure!(ending.is_none(), "the pool holds an n-gram of {} tokens twice", ngram.len());
        *ending = Some(number);
        Ok(())
    }

    /// Calls `found` with the number of each n-gram of the row, as often as it occurs. Time is the row's length times
    /// the longest n-gram's times the skips that fit the row.
    pub fn find(&self, row: &[u32], lengths: Lengths, mut found: impl FnMut(u32)) {
        for skip in 0..=lengths.max_skip.min(row.len()) {
            // Tokens alone are the same for every skip, so they count once.
            let min = if skip == 0 { lengths.min } else { lengths.min.max(2) };
            if min > lengths.max {
                break;
            }
            for start in 0..row.len() {
                let mut place = ROOT;
                let tokens = row[start..].iter().step_by(skip + 1).take(lengths.max);
                for (length, token) in (1..).zip(tokens) {
                    match self.next.get(&(place, *token)) {
                        Some(next) if *token != UNKNOWN => place = *next,
                        _ => break,
                    }
                    if let Some(number) = self.ending[place as usize].filter(|_| length >= min) {
                        found(number);
                    }
                }
            }
        }
    }
}

/// Numbers the tokens of a pool, so that equal tokens have one number.
#[derive(Debug)]
pub struct Numbers<T>(HashMap<T, u32>);

impl<T: std::hash::Hash + Eq + Clone> Numbers<T> {
    /// The numbers of the pool's tokens in their order, and how to find those of others.
    pub fn of(pool: &[T]) -> TractResult<(Vec<u32>, Self)> {
        ensure!(u32::try_from(pool.len()).is_ok_and(|count| count < UNKNOWN), "the pool holds too many tokens");
        let mut numbers = HashMap::with_capacity(pool.len());
        let one = |token: &T| {
            let fresh = numbers.len() as u32;
            *numbers.entry(token.clone()).or_insert(fresh)
        };
        let row = pool.iter().map(one).collect();
        Ok((row, Self(numbers)))
    }

    /// What it takes, `heap` being what a token holds beside itself.
    pub fn held_bytes(&self, heap: impl Fn(&T) -> usize) -> usize {
        self.0.keys().map(|token| size_of::<(T, u32)>() + heap(token)).sum()
    }

    pub fn row<Q: std::hash::Hash + Eq>(&self, tokens: &[Q]) -> Vec<u32>
    where
        T: std::borrow::Borrow<Q>,
    {
        tokens.iter().map(|token| self.0.get(token).copied().unwrap_or(UNKNOWN)).collect()
    }
}
