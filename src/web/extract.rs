//! Reading requests: strict JSON bodies that tell all their errors at once, ids and pages.

use std::fmt;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde::de::Visitor;
use serde::de::value::MapDeserializer;
use serde_json::Map;
use serde_json::Value;

use crate::web::problem::FieldError;
use crate::web::problem::Problem;

/// Errors told in one answer; whoever has more than these has sent something else altogether.
const MAX_FIELD_ERRORS: usize = 50;

/// The errors of a request body, collected until all are known.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// Adds an error of the field at a JSON pointer (RFC 6901).
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.0.len() < MAX_FIELD_ERRORS {
            self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        }
    }

    /// # Errors
    /// The 422 answer with every error, if there is any.
    pub fn check(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let detail = if self.0.len() == 1 {
            "one field cannot be taken; see errors".to_owned()
        } else {
            format!("{} fields cannot be taken; see errors", self.0.len())
        };
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", detail).with_errors(self.0))
    }
}

/// One field of a request body. Reading it never fails, so that one wrong field does not hide the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Field<T> {
    /// Not there, or `null`.
    Missing,
    /// Of another JSON type. What was sent is not kept, because it may be a misplaced secret.
    Wrong,
    Given(T),
}

/// How a field's JSON type is called in an error.
pub trait Kind {
    const EXPECTED: &'static str;
}

impl Kind for String {
    const EXPECTED: &'static str = "must be a string";
}

impl Kind for bool {
    const EXPECTED: &'static str = "must be true or false";
}

impl Kind for u32 {
    const EXPECTED: &'static str = "must be a whole number from 0 to 4294967295";
}

impl Kind for i32 {
    const EXPECTED: &'static str = "must be a whole number";
}

impl Kind for f64 {
    const EXPECTED: &'static str = "must be a number";
}

impl Kind for Vec<Map<String, Value>> {
    const EXPECTED: &'static str = "must be a list of objects";
}

impl Kind for [f64; 4] {
    const EXPECTED: &'static str = "must be a list of four numbers";
}

impl Kind for Vec<String> {
    const EXPECTED: &'static str = "must be a list of strings";
}

impl Kind for Map<String, Value> {
    const EXPECTED: &'static str = "must be an object";
}

impl<T: Kind> Field<T> {
    /// The value; a field that is missing or of the wrong type is an error.
    pub fn required(self, errors: &mut Errors, pointer: &str) -> Option<T> {
        if matches!(self, Self::Missing) {
            errors.add(pointer, "is required");
        }
        self.optional(errors, pointer)
    }

    /// The value if there is one; a field of the wrong type is an error.
    pub fn optional(self, errors: &mut Errors, pointer: &str) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Missing => None,
            Self::Wrong => {
                errors.add(pointer, T::EXPECTED);
                None
            }
        }
    }
}

impl Field<String> {
    /// A text that people read: trimmed, 1 to `max` characters, on one line.
    pub fn line(self, errors: &mut Errors, pointer: &str, max: usize) -> Option<String> {
        let text = self.required(errors, pointer)?;
        let text = text.trim();
        if (1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Some(text.to_owned())
        } else {
            errors.add(pointer, format!("must have 1 to {max} characters on one line"));
            None
        }
    }

    /// A text of a form that its type knows, such as an id.
    pub fn parsed<T>(self, errors: &mut Errors, pointer: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.required(errors, pointer)?;
        text.parse().map_err(|reason| errors.add(pointer, format!("{reason}"))).ok()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::Missing);
        }
        Ok(serde_json::from_value(value).map_or(Self::Wrong, Self::Given))
    }
}

/// Reads an object whose fields are all [`Field`]s; a member that is none of them is an error which names those that are.
pub fn read_object<T: DeserializeOwned>(object: Map<String, Value>, pointer: &str, errors: &mut Errors) -> T {
    T::deserialize(Strict { object, pointer, errors }).expect("a Field takes every value")
}

/// An object that tells of members which the struct it is read into does not have.
struct Strict<'a> {
    object: Map<String, Value>,
    pointer: &'a str,
    errors: &'a mut Errors,
}

impl<'de> Deserializer<'de> for Strict<'_> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let (pointer, errors) = (self.pointer, &mut self.errors);
        self.object.retain(|name, _| {
            let known = fields.contains(&name.as_str());
            if !known {
                let escaped: String = name.chars().take(64).collect::<String>().replace('~', "~0").replace('/', "~1");
                let detail = format!("is not a field of this request; its fields are {}", fields.join(", "));
                errors.add(format!("{pointer}/{escaped}"), detail);
            }
            known
        });
        for name in fields {
            self.object.entry(*name).or_insert(Value::Null);
        }
        visitor.visit_map(MapDeserializer::new(self.object.into_iter()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_map(MapDeserializer::new(self.object.into_iter()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A JSON request body, with the errors found so far: the handler adds its own and answers with all of them.
pub struct Body<T> {
    pub fields: T,
    pub errors: Errors,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send the body as JSON, with the header Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the request body is too large")
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "bad_body", "the request body did not arrive whole"),
        })?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|reason| {
            let detail = format!("the body is not JSON: line {}, column {}", reason.line(), reason.column());
            Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail)
        })?;
        let mut errors = Errors::default();
        let Value::Object(object) = value else {
            errors.add("", Map::<String, Value>::EXPECTED);
            errors.check()?;
            unreachable!("an error was added");
        };
        let fields = read_object(object, "", &mut errors);
        Ok(Self { fields, errors })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

/// An id in the path. One that is not well formed belongs to nothing, so it is simply not found.
pub struct Id<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map_err(|_| not_found())?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// The answer for what does not exist, and for what belongs to somebody else: a caller cannot tell them apart.
pub fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing here, or it is not yours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        name: Field<String>,
        record: Field<bool>,
        width: Field<u32>,
    }

    fn read(json: &str) -> (Sample, Errors) {
        let mut errors = Errors::default();
        let object = serde_json::from_str(json).expect("an object");
        (read_object(object, "", &mut errors), errors)
    }

    fn pointers(errors: &Errors) -> Vec<&str> {
        errors.0.iter().map(|error| error.pointer.as_str()).collect()
    }

    #[test]
    fn every_wrong_field_is_told_and_no_value_is_repeated() {
        let (sample, mut errors) = read(r#"{"name":7,"record":"live_canary","width":-1,"na/me":1}"#);
        assert_eq!(sample.name.line(&mut errors, "/name", 64), None);
        assert_eq!(sample.record.required(&mut errors, "/record"), None);
        assert_eq!(sample.width.optional(&mut errors, "/width"), None);
        assert_eq!(pointers(&errors), ["/na~1me", "/name", "/record", "/width"]);
        assert!(!format!("{errors:?}").contains("canary"));
        assert!(errors.0[0].detail.ends_with("name, record, width"));
    }

    #[test]
    fn null_is_missing() {
        let (sample, mut errors) = read(r#"{"name":null,"width":3}"#);
        assert_eq!(sample.width.optional(&mut errors, "/width"), Some(3));
        assert_eq!(sample.record.optional(&mut errors, "/record"), None);
        assert!(pointers(&errors).is_empty());
        assert_eq!(sample.name.required(&mut errors, "/name"), None);
        assert_eq!(pointers(&errors), ["/name"]);
    }
}
