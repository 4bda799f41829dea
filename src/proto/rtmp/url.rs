//! RTMP URLs as people paste them: server and stream key taken apart, and clear words when they cannot be.
//!
//! Forms of the platforms: `rtmps://va.pscp.tv:443/x` (X.com; plain RTMP is on port 80), `rtmp://a.rtmp.youtube.com/live2` with the
//! backup `rtmp://b.rtmp.youtube.com/live2?backup=1`, `rtmps://<ingest>/app/{stream_key}` (Twitch's list), `rtmps://rtmp-api.facebook.com:443/rtmp/`,
//! `rtmps://<id>.global-contribute.live-video.net/app` (Kick).

use url::Host;
use url::Url;

use crate::model::fault::Fault;
use crate::model::fault::Faulty;
use crate::model::secret::StreamKey;
use crate::model::spec::RtmpEndpoint;

/// Longer than every platform's URL with its key.
const MAX_LENGTH: usize = 2048;
/// IANA's port of RTMP, and that of TLS, which all platforms use for RTMPS.
const RTMP_PORT: u16 = 1935;
const RTMPS_PORT: u16 = 443;

/// What is wrong with a URL. No message repeats the URL, because it may hold the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the server URL has more than {MAX_LENGTH} characters; copy it again from the platform's page")]
    TooLong,
    #[error("this is not a URL; it looks like rtmps://server.example/app")]
    Syntax,
    #[error("the server URL must begin with rtmp:// or rtmps://")]
    Scheme,
    #[error("the server URL holds a user name or password; take them out, platforms ask for a stream key instead")]
    UserInfo,
    #[error("the server URL has no valid host name")]
    Host,
    #[error("the server URL has no valid port; it is a number from 1 to 65535")]
    Port,
    #[error("the server URL has no application; it looks like rtmps://server.example/app")]
    NoApp,
    #[error("the server URL must not hold spaces, control characters or #")]
    Characters,
    #[error("there is no stream key; enter the one of the platform's page")]
    NoKey,
    #[error("the stream key in the URL is not valid; enter it by itself")]
    Key,
}

impl Faulty for UrlError {
    fn fault(&self) -> Fault {
        Fault::Client
    }
}

/// Takes a pasted URL apart.
///
/// With a `key` given by itself the whole path is the application, except for that key or a placeholder such as `{stream_key}` at its
/// end. Without one the last segment of the path is the key: `rtmp://host/app/key`.
///
/// # Errors
/// [`UrlError`].
pub fn parse(text: &str, key: Option<StreamKey>) -> Result<(RtmpEndpoint, StreamKey), UrlError> {
    let text = text.trim();
    if text.len() > MAX_LENGTH {
        return Err(UrlError::TooLong);
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#' || c == '\\') {
        return Err(UrlError::Characters);
    }
    let (scheme, _) = text.split_once("://").ok_or(UrlError::Syntax)?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "rtmp" => false,
        "rtmps" => true,
        _ => return Err(UrlError::Scheme),
    };
    let url = Url::parse(text).map_err(|error| {
        if error == url::ParseError::InvalidPort {
            UrlError::Port
        } else if matches!(
            error,
            url::ParseError::EmptyHost
                | url::ParseError::InvalidDomainCharacter
                | url::ParseError::InvalidIpv4Address
                | url::ParseError::InvalidIpv6Address
                | url::ParseError::IdnaError
        ) {
            UrlError::Host
        } else {
            UrlError::Syntax
        }
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    let port = match url.port() {
        Some(0) => return Err(UrlError::Port),
        Some(port) => port,
        None if tls => RTMPS_PORT,
        None => RTMP_PORT,
    };
    let host = host(&url)?;
    let (app, found) = split_path(&url, key.as_ref())?;
    let key = match (key, found) {
        (Some(key), _) => key,
        (None, Some(found)) => StreamKey::new(found).map_err(|_| UrlError::Key)?,
        (None, None) => return Err(UrlError::NoKey),
    };
    Ok((RtmpEndpoint { tls, host, port, app }, key))
}

fn host(url: &Url) -> Result<String, UrlError> {
    match url.host() {
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        // The scheme is not one of the web's, so that the parser does not look into the name.
        Some(Host::Domain(name)) => {
            let name = name.to_ascii_lowercase();
            let well_formed = (1..=253).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && !name.split('.').rev().skip(1).any(str::is_empty)
                && name.trim_end_matches('.').len() + 1 >= name.len();
            if well_formed { Ok(name) } else { Err(UrlError::Host) }
        }
        None => Err(UrlError::Host),
    }
}

/// The application, and what stands behind it if that is or may be a key.
fn split_path(url: &Url, key: Option<&StreamKey>) -> Result<(String, Option<String>), UrlError> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let path = path.trim_start_matches('/');
    if let Some(key) = key {
        let app = [key.expose(), "{stream_key}", "{key}", "%7Bstream_key%7D", "%7Bkey%7D"]
            .iter()
            .find_map(|tail| path.strip_suffix(tail).filter(|app| app.ends_with('/')))
            .unwrap_or(path)
            .trim_end_matches('/');
        return if app.is_empty() { Err(UrlError::NoApp) } else { Ok((app.to_owned(), None)) };
    }
    // A key may have a query of its own (Facebook's do), an application too (YouTube's backup has): the query belongs to the
    // segment before it, and a slash within it ends an application.
    let (before_query, query) = path.split_once('?').unwrap_or((path, ""));
    let cut = match before_query.trim_end_matches('/').rfind('/') {
        Some(slash) => Some(slash),
        None => query.rfind('/').map(|slash| before_query.len() + 1 + slash),
    };
    let (app, found) = match cut {
        Some(slash) => (&path[..slash], path[slash + 1..].trim_end_matches('/')),
        None => (path.trim_end_matches('/'), ""),
    };
    if app.is_empty() {
        return Err(UrlError::NoApp);
    }
    let is_key = !found.is_empty() && !found.contains(['{', '}']) && !found.to_ascii_lowercase().contains("%7b");
    Ok((app.to_owned(), is_key.then(|| found.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> StreamKey {
        StreamKey::new(text.to_owned()).expect("well formed")
    }

    #[test]
    fn the_platforms_forms_are_understood() {
        for (text, shown) in [
            ("rtmps://va.pscp.tv:443/x", "rtmps://va.pscp.tv:443/x"),
            ("rtmp://va.pscp.tv:80/x/", "rtmp://va.pscp.tv:80/x"),
            (" rtmp://a.rtmp.youtube.com/live2\n", "rtmp://a.rtmp.youtube.com:1935/live2"),
            ("rtmp://b.rtmp.youtube.com/live2?backup=1", "rtmp://b.rtmp.youtube.com:1935/live2?backup=1"),
            (
                "rtmps://ingest.contribute.live-video.net/app/{stream_key}",
                "rtmps://ingest.contribute.live-video.net:443/app",
            ),
            ("rtmps://rtmp-api.facebook.com:443/rtmp/", "rtmps://rtmp-api.facebook.com:443/rtmp"),
            (
                "RTMPS://Fa72.global-contribute.live-video.net/app",
                "rtmps://fa72.global-contribute.live-video.net:443/app",
            ),
            ("rtmp://[::1]:1936/live", "rtmp://[::1]:1936/live"),
            ("rtmp://example.org/live/the-key", "rtmp://example.org:1935/live"),
            ("rtmp://example.org/live/inner", "rtmp://example.org:1935/live/inner"),
        ] {
            let (endpoint, taken) = parse(text, Some(key("the-key"))).expect(text);
            assert_eq!((endpoint.url().as_str(), taken.expose()), (shown, "the-key"));
        }
    }

    #[test]
    fn a_key_at_the_end_of_the_path_is_taken_out_of_what_is_shown() {
        for (text, app, expected) in [
            ("rtmp://example.org/live/abc-123", "live", "abc-123"),
            ("rtmp://example.org/a/b/abc", "a/b", "abc"),
            ("rtmps://example.org/rtmp/FB-1?s_bl=1&a=b/c", "rtmp", "FB-1?s_bl=1&a=b/c"),
            ("rtmp://example.org/live2?backup=1/abc", "live2?backup=1", "abc"),
        ] {
            let (endpoint, taken) = parse(text, None).expect(text);
            assert_eq!((endpoint.app.as_str(), taken.expose()), (app, expected));
        }
        assert_eq!(parse("rtmp://example.org/live", None).err(), Some(UrlError::NoKey));
        assert_eq!(parse("rtmp://example.org/app/{stream_key}", None).err(), Some(UrlError::NoKey));
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", UrlError::Syntax),
            ("example.org/live", UrlError::Syntax),
            ("https://example.org/live", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("rtmp://user:pw@example.org/live", UrlError::UserInfo),
            ("rtmp:///live", UrlError::Host),
            ("rtmp://a..b/live", UrlError::Host),
            ("rtmp://exa%6dple.org/live", UrlError::Host),
            ("rtmp://example.org:0/live", UrlError::Port),
            ("rtmp://example.org:99999/live", UrlError::Port),
            ("rtmp://example.org", UrlError::NoApp),
            ("rtmp://example.org/", UrlError::NoApp),
            ("rtmp://example.org/li ve", UrlError::Characters),
            ("rtmp://example.org/live#x", UrlError::Characters),
            (&"r".repeat(3000), UrlError::TooLong),
        ] {
            assert_eq!(parse(text, Some(key("the-key"))).err(), Some(expected), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(rtmps?://)?\\PC{0,60}") {
            let _ = parse(&text, None);
        }
    }
}
