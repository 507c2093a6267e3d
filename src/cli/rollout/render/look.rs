//! Where a view is drawn: how wide, and whether in colour.

/// A terminal, or what takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// In characters.
    pub width: usize,
    /// Whether escape sequences may set colours.
    pub colour: bool,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Attention,
    Plain,
}

impl Look {
    /// Without colours, as wide as a terminal is at least.
    pub const PLAIN: Self = Self { width: 80, colour: false };

    /// Colours a text, whose width must have been decided before.
    ///
    /// Source: ECMA-48, Select Graphic Rendition.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Attention => "33",
            Tone::Plain => return text.to_owned(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
