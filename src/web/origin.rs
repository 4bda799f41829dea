//! Which pages may open a WebSocket: CORS does not hold them back.

use axum::http::HeaderMap;
use axum::http::header;

/// Browsers always send an origin; what sends none is no browser, and no page can make it connect.
pub(crate) fn is_welcome(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").map(|(_, authority)| authority);
    own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host))
        || allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_allowed_origins_are_welcome() {
        let headers = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "jam.example:8080".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            headers
        };
        let allowed = ["https://studio.example/".to_owned()];
        assert!(is_welcome(&HeaderMap::new(), &[]));
        assert!(is_welcome(&headers("http://jam.example:8080"), &[]));
        assert!(is_welcome(&headers("https://studio.example"), &allowed));
        for stranger in ["http://jam.example", "https://evil.example", "null", "https://studio.example.evil.example"] {
            assert!(!is_welcome(&headers(stranger), &allowed), "{stranger}");
        }
    }
}
