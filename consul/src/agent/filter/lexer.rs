//! Splits a filter expression into tokens.

use super::FilterError;

/// A token, with where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Equal,
    NotEqual,
    /// A word: a keyword, a selector, or a bare value.
    Word(String),
    /// A quoted value.
    Quoted(String),
}

/// Splits `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '=' if rest.starts_with("==") => (Token::Equal, 2),
            '!' if rest.starts_with("!=") => (Token::NotEqual, 2),
            '"' | '`' => quoted(rest, first)?,
            _ => word(rest)?,
        };
        out.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(out)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), FilterError> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if escaped {
            value.push(character);
            escaped = false;
        } else if character == '\\' && quote == '"' {
            escaped = true;
        } else if character == quote {
            return Ok((Token::Quoted(value), at + 1));
        } else {
            value.push(character);
        }
    }
    Err(FilterError(format!("unterminated string literal at {text}")))
}

/// A word ends at a space, a parenthesis or an operator; a quoted part in brackets belongs to it.
fn word(text: &str) -> Result<(Token, usize), FilterError> {
    let mut in_brackets = false;
    let mut end = text.len();
    for (at, character) in text.char_indices() {
        match character {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ if in_brackets => {}
            '(' | ')' | '=' | '!' => {
                end = at;
                break;
            }
            character if character.is_whitespace() => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    if end == 0 || in_brackets {
        return Err(FilterError(format!("no match found for {text:?}")));
    }
    Ok((Token::Word(text[..end].to_owned()), end))
}
