//! The strings of a JSON text: escapes, surrogate pairs, UTF-8.

use std::borrow::Cow;

use super::reader::{JsonError, Problem, Reader};

type Result<T> = std::result::Result<T, JsonError>;

impl<'a> Reader<'a> {
    /// Reads a string, borrowed from the text where it holds no escape.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        if !self.eat(b'"') {
            return Err(self.expected("a string"));
        }
        let first = self.plain_run()?;
        if self.text.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(first));
        }
        let mut whole = first.to_owned();
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(whole));
                }
                Some(b'\\') => whole.push(self.escape()?),
                _ => whole.push_str(self.plain_run()?),
            }
        }
    }

    /// The part of a string up to its end or its next escape.
    fn plain_run(&mut self) -> Result<&'a str> {
        let start = self.at;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' | b'\\' => {
                    return std::str::from_utf8(&self.text[start..self.at])
                        .map_err(|_| JsonError { at: start, problem: Problem::NotUtf8 });
                }
                0..0x20 => return Err(self.fault(Problem::ControlCharacter)),
                _ => self.at += 1,
            }
        }
        Err(self.expected("the end of a string"))
    }

    fn escape(&mut self) -> Result<char> {
        let plain = match self.text.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.fault(Problem::BadEscape)),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let high = self.code_unit()?;
        let code = match high {
            0xd800..0xdc00 => {
                if self.text.get(self.at) != Some(&b'\\') || self.text.get(self.at + 1) != Some(&b'u') {
                    return Err(self.fault(Problem::LoneSurrogate));
                }
                let low = self.code_unit()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err(self.fault(Problem::LoneSurrogate));
                }
                0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            code => code,
        };
        // Only the low half of a pair is left that isn't a character.
        char::from_u32(code).ok_or_else(|| self.fault(Problem::LoneSurrogate))
    }

    /// `\uXXXX`, with the reader on the backslash.
    fn code_unit(&mut self) -> Result<u32> {
        let digits = self.text.get(self.at + 2..self.at + 6).ok_or_else(|| self.fault(Problem::BadEscape))?;
        let mut unit = 0;
        for &digit in digits {
            let digit = char::from(digit).to_digit(16).ok_or_else(|| self.fault(Problem::BadEscape))?;
            unit = unit * 16 + digit;
        }
        self.at += 6;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_with_escapes_and_surrogates() {
        let read = |text: &str| Reader::new(text.as_bytes()).string().map(Cow::into_owned);
        assert_eq!(read(r#""a\"\\\/\b\f\n\r\té""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\té");
        assert_eq!(read(r#""\ud83d\ude00!""#).unwrap(), "😀!");
        for bad in [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\ud83d\u0041""#, r#""\x""#, r#""\u12"#, "\"\n\""]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        let err = Reader::new(b"\"\xff\"").string().unwrap_err();
        assert_eq!(err.problem, Problem::NotUtf8);
    }

    proptest! {
        #[test]
        fn it_takes_the_strings_that_serde_json_writes(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let read = Reader::new(written.as_bytes()).string().unwrap().into_owned();
            prop_assert_eq!(read, text);
        }
    }
}
