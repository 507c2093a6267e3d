//! A JSON reader that keeps each number's text and takes `NaN`, `Infinity` and `-Infinity`, as the protocol does.

/// A JSON value. Numbers stay text, so that no bit is lost on the way to a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document. Panics on anything else, as a test should.
    pub fn parse(text: &[u8]) -> Self {
        let mut reader = Reader { text: std::str::from_utf8(text).expect("JSON is UTF-8"), at: 0 };
        let value = reader.value();
        reader.blanks();
        assert_eq!(reader.at, reader.text.len(), "behind the document: {:?}", &reader.text[reader.at..]);
        value
    }

    /// The member of that name; `Null` where there is none.
    pub fn get(&self, name: &str) -> &Json {
        match self {
            Self::Object(members) => {
                members.iter().find(|(key, _)| key == name).map_or(&Self::Null, |(_, value)| value)
            }
            _ => panic!("'{name}' asked of {self:?}"),
        }
    }

    pub fn list(&self) -> &[Json] {
        match self {
            Self::List(items) => items,
            _ => panic!("a list was expected, got {self:?}"),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            _ => panic!("text was expected, got {self:?}"),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.at += self.text[self.at..].find(|c: char| !c.is_ascii_whitespace()).unwrap_or(self.text.len() - self.at);
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Json {
        self.blanks();
        match self.text.as_bytes()[self.at] {
            b'{' => Json::Object(self.members()),
            b'[' => Json::List(self.items()),
            b'"' => Json::Text(self.string()),
            _ if self.take("null") => Json::Null,
            _ if self.take("true") => Json::Bool(true),
            _ if self.take("false") => Json::Bool(false),
            _ => Json::Number(self.number()),
        }
    }

    fn members(&mut self) -> Vec<(String, Json)> {
        assert!(self.take("{"));
        let mut members = vec![];
        while !self.take("}") {
            assert!(members.is_empty() || self.take(","));
            self.blanks();
            let key = self.string();
            assert!(self.take(":"));
            members.push((key, self.value()));
        }
        members
    }

    fn items(&mut self) -> Vec<Json> {
        assert!(self.take("["));
        let mut items = vec![];
        while !self.take("]") {
            assert!(items.is_empty() || self.take(","));
            items.push(self.value());
        }
        items
    }

    fn string(&mut self) -> String {
        let mut strings = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<String>();
        let string = strings.next().expect("a string").expect("a JSON string");
        self.at += strings.byte_offset();
        string
    }

    fn number(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        assert!(end > 0, "a value was expected at {rest:.40}");
        self.at += end;
        rest[..end].to_owned()
    }
}

#[test]
fn numbers_keep_their_text() {
    let json = Json::parse(br#" {"data": [1e3, -Infinity, NaN, 0.10000000149], "s": "a\"\u00e9"} "#);
    let data: Vec<&str> = json.get("data").list().iter().map(Json::text).collect();
    assert_eq!(data, ["1e3", "-Infinity", "NaN", "0.10000000149"]);
    assert_eq!(json.get("s").text(), "a\"é");
}
