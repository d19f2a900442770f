//! Refusing a request by the field that is wrong in it.

use std::fmt;

use tonic::Status;

/// INVALID_ARGUMENT that names the field: `email: found "x", expected …`.
pub fn invalid(field: &str, why: impl fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}

/// The text of a field, where it has something in it and at most `max` characters.
pub fn text<'a>(field: &str, found: &'a str, max: usize) -> Result<&'a str, Status> {
    if found.trim().is_empty() {
        return Err(invalid(field, format_args!("found {found:?}, expected a text")));
    }
    // PostgreSQL has no text with a NUL in it.
    if found.contains('\0') {
        return Err(invalid(field, "found a NUL character, expected none"));
    }
    let length = found.chars().count();
    if length > max {
        let why = format_args!("found {length} characters, expected at most {max}");
        return Err(invalid(field, why));
    }
    Ok(found)
}

/// The ID in a field, as the store counts it: `None` where no store ever gave out such an ID, so
/// that what it names does not exist. Only an empty one is refused.
pub fn id(field: &str, found: &str) -> Result<Option<i64>, Status> {
    if found.is_empty() {
        return Err(invalid(field, "found nothing, expected an ID"));
    }
    // "01" and "+1" parse as well, but only "1" is the ID of the first.
    Ok(found.parse::<i64>().ok().filter(|id| *id > 0 && id.to_string() == found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        assert_eq!(id("id", "42").unwrap(), Some(42));
        for other in ["042", "+42", "-42", "0", " 42", "forty-two", "99999999999999999999"] {
            assert_eq!(id("id", other).unwrap(), None, "{other:?}");
        }
        assert_eq!(
            id("user_id", "").unwrap_err().message(),
            "user_id: found nothing, expected an ID"
        );
    }

    #[test]
    fn a_text_is_measured_in_characters() {
        assert!(text("name", "日本語", 3).is_ok());
        let refused = text("name", "日本語!", 3).unwrap_err();
        assert_eq!(refused.message(), "name: found 4 characters, expected at most 3");
        assert_eq!(
            text("name", " \t", 3).unwrap_err().message(),
            r#"name: found " \t", expected a text"#
        );
    }
}
