//! Text that a peer chose, made safe to print.

/// `text` with everything escaped that a terminal or a log may interpret or hide: control
/// characters (C0, DEL, C1), line separators, formatting characters such as those that change the
/// direction of text, and the backslash, so that escapes are unambiguous.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn only_visible_characters_remain() {
        for (text, shown) in [
            ("spine-1.example", "spine-1.example"),
            ("it's \"spine\" é 雪", "it's \"spine\" é 雪"),
            ("\x1b[31mred", r"\u{1b}[31mred"),
            ("a\nb\tc\r\0", r"a\nb\tc\r\0"),
            ("\u{7f}\u{9b}31m", r"\u{7f}\u{9b}31m"),
            (
                "\u{202e}txt\u{2066}\u{200b}",
                r"\u{202e}txt\u{2066}\u{200b}",
            ),
            ("\u{2028}\u{feff}", r"\u{2028}\u{feff}"),
            (r"\u{1b}", r"\\u{1b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
