//! Errors over HTTP: `application/problem+json` (RFC 9457), one form for every route.

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::live::port::TokenError;
use crate::live::rooms::RoomError;
use crate::model::fault::Fault;

/// How long a caller should wait before it tries a full or overloaded part again; short, because both pass quickly.
const RETRY_AFTER_S: u64 = 2;

/// One error, as the caller reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI naming the kind of problem; `about:blank`, because `code` names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the problem in snake_case, for programs.
    pub code: String,
    /// What failed and what to do, for people.
    pub detail: String,
    /// The request's id, to be found in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Every wrong field at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Sent as the header `Retry-After`, seconds.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

/// One wrong field of a request body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    /// A problem with its stable code and a sentence for people.
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into(),
            request_id: None,
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// Names every wrong field.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Tells the caller when to try again.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Names the request, so that the caller can quote it.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// The status as a type; 500 should the number ever be none.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The status that a fault means when nothing more precise is known.
pub const fn fault_status(fault: Fault) -> StatusCode {
    match fault {
        Fault::Client => StatusCode::BAD_REQUEST,
        Fault::Destination => StatusCode::BAD_GATEWAY,
        Fault::Transient => StatusCode::SERVICE_UNAVAILABLE,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The stable name of a room's refusal, the same over HTTP and in signalling.
pub const fn room_code(error: &RoomError) -> &'static str {
    match error {
        RoomError::NotJoined => "not_joined",
        RoomError::RoomFull(_) => "room_full",
        RoomError::RoomLocked => "room_locked",
        RoomError::Banned => "banned",
        RoomError::RoleTooLow => "role_too_low",
        RoomError::UnknownParticipant => "unknown_participant",
        RoomError::NotAMusician => "not_a_musician",
        RoomError::Sdp(_) => "bad_sdp",
        RoomError::Candidate(_) => "bad_candidate",
        RoomError::UnknownMid(_) => "unknown_mid",
        RoomError::UnknownProducer => "unknown_producer",
        RoomError::UnknownConsumer => "unknown_consumer",
        RoomError::UnexpectedAnswer => "unexpected_answer",
        RoomError::NoCommonCodec => "no_common_codec",
        RoomError::TooManyTracks(_) => "too_many_tracks",
        RoomError::Overloaded => "overloaded",
    }
}

/// The stable name of what is wrong with a token, the same over HTTP and in signalling.
pub const fn token_code(error: TokenError) -> &'static str {
    match error {
        TokenError::Invalid => "token_invalid",
        TokenError::Expired => "token_expired",
        TokenError::WrongAudience => "token_wrong_audience",
    }
}

impl From<RoomError> for Problem {
    fn from(error: RoomError) -> Self {
        let status = match error {
            RoomError::NotJoined
            | RoomError::UnknownParticipant
            | RoomError::UnknownProducer
            | RoomError::UnknownConsumer => StatusCode::NOT_FOUND,
            RoomError::RoomLocked | RoomError::Banned | RoomError::RoleTooLow => StatusCode::FORBIDDEN,
            RoomError::RoomFull(_) | RoomError::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            RoomError::NoCommonCodec => StatusCode::NOT_ACCEPTABLE,
            RoomError::UnexpectedAnswer | RoomError::NotAMusician => StatusCode::CONFLICT,
            RoomError::Sdp(_) | RoomError::Candidate(_) | RoomError::UnknownMid(_) | RoomError::TooManyTracks(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        let problem = Self::new(status, room_code(&error), error.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE { problem.with_retry_after(RETRY_AFTER_S) } else { problem }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, token_code(error), error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let body = serde_json::to_vec(&self).expect("a problem is strings and numbers");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 names the scheme that would have been taken.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_in_headers_and_body() {
        let response = Problem::from(RoomError::Overloaded).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let refused = Problem::from(TokenError::Expired).into_response();
        assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn the_body_has_the_members_of_rfc_9457_and_no_empty_ones() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", "The title is too long.")
            .with_errors(vec![FieldError { pointer: "/title".into(), detail: "at most 100 characters".into() }])
            .with_request_id("req_1");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "about:blank", "title": "Unprocessable Entity", "status": 422, "code": "invalid_body",
                "detail": "The title is too long.", "request_id": "req_1",
                "errors": [{"pointer": "/title", "detail": "at most 100 characters"}]
            })
        );
        let bare = serde_json::to_value(Problem::new(StatusCode::NOT_FOUND, "x", "y")).unwrap();
        assert!(bare.get("errors").is_none() && bare.get("request_id").is_none());
    }
}
