//! A pull parser over bytes: the caller says what it expects next and gets it, in one pass, without a tree.
//!
//! Grammar: RFC 8259, and beside it the tokens `NaN`, `Infinity` and `-Infinity` where a number may stand.

use std::fmt;

use super::numbers::skip_run;

/// Arrays and objects that may lie in one another.
pub const MAX_DEPTH: usize = 100;

/// A position in a JSON text. A clone is a second, independent position.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    depth: usize,
}

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A number as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number<'a> {
    /// Digits and perhaps a sign: no fraction, no exponent.
    Whole(&'a str),
    Decimal(&'a str),
    Nan,
    Infinity {
        negative: bool,
    },
}

/// What is wrong with the text, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct JsonError {
    pub at: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// `got` is `None` at the end of the text.
    Expected {
        expected: &'static str,
        got: Option<u8>,
    },
    TooDeep,
    BadEscape,
    LoneSurrogate,
    ControlCharacter,
    NotUtf8,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { expected, got: None } => write!(f, "expected {expected}, got the end of the text"),
            Self::Expected { expected, got: Some(byte) } if byte.is_ascii_graphic() => {
                write!(f, "expected {expected}, got '{}'", char::from(*byte))
            }
            Self::Expected { expected, got: Some(byte) } => write!(f, "expected {expected}, got byte 0x{byte:02x}"),
            Self::TooDeep => write!(f, "more than {MAX_DEPTH} arrays and objects in one another"),
            Self::BadEscape => f.write_str("an escape in a string that JSON does not know"),
            Self::LoneSurrogate => f.write_str("half of a surrogate pair in a string"),
            Self::ControlCharacter => f.write_str("a control character in a string, which must be escaped"),
            Self::NotUtf8 => f.write_str("a string that is not UTF-8"),
        }
    }
}

type Result<T, E = JsonError> = std::result::Result<T, E>;

impl<'a> Reader<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    /// The kind of the next value, without reading it.
    pub fn peek(&mut self) -> Result<Kind> {
        match self.next_byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.expected("a value")),
        }
    }

    /// Reads an array: `each` reads one element, and is called with the reader in front of it.
    pub fn array<E: From<JsonError>>(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.open(b'[', "an array")?;
        let mut done = self.eat(b']');
        while !done {
            each(self)?;
            done = self.eat(b']');
            if !done && !self.eat(b',') {
                return Err(self.expected("',' or ']'").into());
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an object: `each` gets a key and reads its value. Whether a key may come twice is its decision.
    pub fn object<E: From<JsonError>>(
        &mut self,
        mut each: impl FnMut(&str, &mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{', "an object")?;
        let mut done = self.eat(b'}');
        while !done {
            let key = self.string()?;
            if !self.eat(b':') {
                return Err(self.expected("':'").into());
            }
            each(&key, self)?;
            done = self.eat(b'}');
            if !done && !self.eat(b',') {
                return Err(self.expected("',' or '}'").into());
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a number.
    pub fn number(&mut self) -> Result<Number<'a>> {
        match self.next_byte() {
            Some(b'N') => self.word("NaN").map(|()| Number::Nan),
            Some(b'I') => self.word("Infinity").map(|()| Number::Infinity { negative: false }),
            Some(b'-') if self.text.get(self.at + 1) == Some(&b'I') => {
                self.word("-Infinity").map(|()| Number::Infinity { negative: true })
            }
            Some(b'-' | b'0'..=b'9') => self.finite(),
            _ => Err(self.expected("a number")),
        }
    }

    pub fn bool(&mut self) -> Result<bool> {
        match self.next_byte() {
            Some(b't') => self.word("true").map(|()| true),
            Some(b'f') => self.word("false").map(|()| false),
            _ => Err(self.expected("true or false")),
        }
    }

    pub fn null(&mut self) -> Result<()> {
        self.next_byte();
        self.word("null")
    }

    /// Reads a value of any kind and forgets it.
    pub fn skip_value(&mut self) -> Result<()> {
        match self.peek()? {
            Kind::Object => self.object(|_, reader| reader.skip_value()),
            Kind::Array => self.array(|reader| match skip_run(reader) {
                0 => reader.skip_value(),
                _ => Ok(()),
            }),
            Kind::String => self.string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.null(),
        }
    }

    /// The end of the text: nothing but white space may be left.
    pub fn finish(mut self) -> Result<()> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end of the text")),
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !is_space(*byte) {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn eat(&mut self, wanted: u8) -> bool {
        let found = self.next_byte() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn open(&mut self, bracket: u8, expected: &'static str) -> Result<()> {
        if !self.eat(bracket) {
            return Err(self.expected(expected));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(Problem::TooDeep));
        }
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<()> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.expected(word))
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn finite(&mut self) -> Result<Number<'a>> {
        let start = self.at;
        self.at += usize::from(self.text[self.at] == b'-');
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let whole = self.at;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).expect("digits, signs, a point and an e are ASCII");
        Ok(if self.at == whole { Number::Whole(text) } else { Number::Decimal(text) })
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    pub(super) fn expected(&self, expected: &'static str) -> JsonError {
        self.fault(Problem::Expected { expected, got: self.text.get(self.at).copied() })
    }

    pub(super) fn fault(&self, problem: Problem) -> JsonError {
        JsonError { at: self.at, problem }
    }
}

/// White space of RFC 8259.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> Result<()> {
        let mut reader = Reader::new(text.as_bytes());
        reader.skip_value()?;
        reader.finish()
    }

    #[test]
    fn what_json_is_and_is_not() {
        for good in ["{}", " [ ] ", "[1,2]", "-0", "0.5e-7", r#"{"a":[true,null,"x"]}"#, "NaN", "[-Infinity,Infinity]"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "[",
            "[1,]",
            "[1 2]",
            "{",
            "{1:2}",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            "01",
            "1.",
            ".5",
            "1e",
            "+1",
            "-",
            "nan",
            "-NaN",
            "Infinit",
            "tru",
            "'a'",
            "\"a",
            "1 1",
            "{} x",
            "[]]",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_depth_bomb_ends_at_the_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)).unwrap_err().problem, Problem::TooDeep);
        assert_eq!(check(&"[".repeat(1_000_000)).unwrap_err().problem, Problem::TooDeep);
        assert_eq!(check(&"{\"a\":".repeat(1_000_000)).unwrap_err().problem, Problem::TooDeep);
    }

    #[test]
    fn an_error_says_where_and_what() {
        assert_eq!(check("[1;2]").unwrap_err().to_string(), "expected ',' or ']', got ';' at byte 2");
        assert_eq!(check("[1").unwrap_err().to_string(), "expected ',' or ']', got the end of the text at byte 2");
    }

    /// `skip_value`, with each number alone.
    fn skip_each(reader: &mut Reader<'_>) -> Result<()> {
        match reader.peek()? {
            Kind::Array => reader.array(skip_each),
            _ => reader.skip_value(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn runs_of_numbers_change_nothing_when_they_are_skipped(
            text in r#"\[((-?[0-9]{1,3}(\.[0-9]{0,20})?(e[0-9])?|NaN|\[[0-9]\]|"a")[, ]{1,2}){0,8}[0-9]?\]{0,2}"#,
        ) {
            let (mut runs, mut each) = (Reader::new(text.as_bytes()), Reader::new(text.as_bytes()));
            prop_assert_eq!((runs.skip_value(), runs.at), (skip_each(&mut each), each.at));
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&text);
            let _ = reader.skip_value();
        }

        #[test]
        fn no_text_of_json_characters_makes_it_panic(text in r#"[\[\]{}",:\\u0-9eE.+\-NaInfity d8\n]{0,80}"#) {
            let mut reader = Reader::new(text.as_bytes());
            let _ = reader.skip_value();
        }
    }
}
