//! Lists in pages: a cursor names the last row of a page, so that rows added meanwhile are neither skipped nor shown twice.

use axum::extract::FromRequestParts;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::live::port::Page;
use crate::web::problem::Problem;

/// Rows in a page when the caller does not say.
const DEFAULT_LIMIT: u32 = 50;

/// The most rows in a page; one more is asked of the store, whose own limit is 200, to learn whether another page follows.
const MAX_LIMIT: u32 = 100;

/// A page as the caller asks for it.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// Rows in the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of rows, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    /// Asks for the next page; `null` on the last one. A page may hold fewer rows than asked for and still have a next one.
    #[schema(required = true)]
    pub(super) next_cursor: Option<String>,
}

/// A checked request for a page.
pub(super) struct PageRequest {
    limit: usize,
    pub(super) page: Page,
}

impl<S: Send + Sync> FromRequestParts<S> for PageRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail);
        let Query(paging) = Query::<Paging>::from_request_parts(parts, state)
            .await
            .map_err(|_| bad("the query takes limit, a whole number, and cursor, a next_cursor of the page before"))?;
        let limit = paging.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(bad("limit must be 1 to 100"));
        }
        let before = match paging.cursor {
            Some(cursor) => Some(decode(&cursor).ok_or_else(|| bad("cursor is not a next_cursor of this list"))?),
            None => None,
        };
        Ok(Self { limit: limit as usize, page: Page { limit: limit + 1, before } })
    }
}

impl PageRequest {
    /// The page of these rows, of which the caller sees those that `view` shows. `place` is a row's creation time, milliseconds
    /// since the epoch, and its id.
    pub(super) fn list<R, T>(
        &self,
        mut rows: Vec<R>,
        place: impl Fn(&R) -> (i64, String),
        view: impl FnMut(R) -> Option<T>,
    ) -> List<T> {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| encode(&place(row)));
        List { data: rows.into_iter().filter_map(view).collect(), next_cursor }
    }
}

fn encode((time, id): &(i64, String)) -> String {
    URL_SAFE_NO_PAD.encode(format!("{time}:{id}"))
}

fn decode(cursor: &str) -> Option<(i64, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (time, id) = text.split_once(':')?;
    Some((time.parse().ok()?, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_the_round_trip() {
        let place = (1_763_690_000_123, "rec_0".to_owned());
        assert_eq!(decode(&encode(&place)), Some(place));
        assert_eq!(decode("%%%"), None);
        assert_eq!(decode(&URL_SAFE_NO_PAD.encode("x:rec_0")), None);
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let request = PageRequest { limit: 2, page: Page { limit: 3, before: None } };
        let list = |rows: Vec<i64>| request.list(rows, |row| (*row, String::new()), Some);
        assert_eq!(list(vec![3, 2]).next_cursor, None);
        let page = list(vec![3, 2, 1]);
        assert_eq!((page.data, page.next_cursor), (vec![3, 2], Some(encode(&(2, String::new())))));
    }
}
