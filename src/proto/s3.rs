//! Requests to an S3-compatible store, signed with AWS Signature Version 4, and what is read of its answers.
//!
//! Buckets are addressed in the path, which every such store takes. The signature covers the body as well.

use std::fmt::Write;

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use bytes::Bytes;
use chrono::DateTime;
use chrono::Utc;
use secrecy::ExposeSecret;
use secrecy::SecretString;

/// The longest name an object may have, bytes.
pub const LONGEST_KEY: usize = 1024;

/// Who signs, and for which bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Host and, unless it is the usual one, port: what the header `Host` says.
    pub authority: String,
    pub region: String,
    pub name: String,
    pub access_key_id: String,
    pub secret_access_key: SecretString,
}

/// What is asked of the store.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// A whole object at once.
    Put,
    Begin,
    Part {
        upload: &'a str,
        /// 1 to 10 000.
        number: u32,
    },
    /// With the parts' tags in their order.
    Complete {
        upload: &'a str,
        tags: &'a [String],
    },
    Abort {
        upload: &'a str,
    },
}

/// A request ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Bucket {
    /// The signed request for an object; `body` is that of [`Action::Put`] and [`Action::Part`].
    pub fn request(&self, action: Action<'_>, key: &str, body: Bytes, now: DateTime<Utc>) -> Request {
        let (method, mut query, body) = match action {
            Action::Put => ("PUT", Vec::new(), body),
            Action::Begin => ("POST", vec![("uploads", String::new())], Bytes::new()),
            Action::Part { upload, number } => {
                ("PUT", vec![("partNumber", number.to_string()), ("uploadId", upload.to_owned())], body)
            }
            Action::Complete { upload, tags } => ("POST", vec![("uploadId", upload.to_owned())], completion(tags)),
            Action::Abort { upload } => ("DELETE", vec![("uploadId", upload.to_owned())], Bytes::new()),
        };
        query.sort();
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
        let (path, query) = (format!("/{}/{}", encoded(&self.name, false), encoded(key, true)), query.join("&"));
        let hash = hex(digest::digest(&digest::SHA256, &body).as_ref());
        let date = now.format("%Y%m%dT%H%M%SZ").to_string();
        let mut headers =
            vec![("host", self.authority.clone()), ("x-amz-content-sha256", hash.clone()), ("x-amz-date", date)];
        headers.push(("authorization", self.authorization(method, &path, &query, &headers, &hash, now)));
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        Request { method, target, headers, body }
    }

    /// The value of the header `Authorization`; `headers` are all that are signed, in alphabetical order.
    fn authorization(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, String)],
        body_hash: &str,
        now: DateTime<Utc>,
    ) -> String {
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{body_hash}");
        let day = now.format("%Y%m%d").to_string();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", now.format("%Y%m%dT%H%M%SZ"));
        let secret = format!("AWS4{}", self.secret_access_key.expose_secret());
        let mut key = secret.into_bytes();
        for word in [&day, &self.region, "s3", "aws4_request"] {
            key = mac(&key, word);
        }
        let signature = hex(&mac(&key, &text));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.access_key_id
        )
    }
}

/// The upload's name in the answer to [`Action::Begin`].
pub fn upload_of(answer: &str) -> Option<String> {
    element(answer, "UploadId").filter(|id| id.len() <= 2048)
}

/// The store's word for what went wrong, such as `NoSuchBucket`. An answer to [`Action::Complete`] may have one although its status is 200.
pub fn error_of(answer: &str) -> Option<String> {
    answer.contains("<Error>").then(|| element(answer, "Code").filter(|code| code.len() <= 64))?
}

/// Whether this is an entity tag that can be sent back.
pub fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>&".contains(&byte))
}

/// The text of the first element of this name, if it is plain.
fn element(answer: &str, name: &str) -> Option<String> {
    let (_, rest) = answer.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once('<')?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&')).then(|| text.to_owned())
}

fn completion(tags: &[String]) -> Bytes {
    let mut body = String::from("<CompleteMultipartUpload>");
    for (number, tag) in (1..).zip(tags) {
        body += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    (body + "</CompleteMultipartUpload>").into()
}

/// Every byte but the unreserved ones of RFC 3986 as `%XX`; in a path the slashes stay.
fn encoded(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if path => out.push('/'),
            other => write!(out, "%{other:02X}").expect("writing to a String does not fail"),
        }
    }
    out
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account of the examples in "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
    fn example() -> Bucket {
        Bucket {
            authority: "examplebucket.s3.amazonaws.com".into(),
            region: "us-east-1".into(),
            name: "examplebucket".into(),
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        }
    }

    fn at() -> DateTime<Utc> {
        "2013-05-24T00:00:00Z".parse().expect("a date")
    }

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn signatures_are_those_of_the_documentation() {
        let signed = |path: &str, query: &str, headers: &[(&str, &str)], hash: &str, method: &str| {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let header = example().authorization(method, path, query, &headers, hash, at());
            header.rsplit('=').next().expect("a signature").to_owned()
        };
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let date = ("x-amz-date", "20130524T000000Z");
        let empty = ("x-amz-content-sha256", EMPTY);
        assert_eq!(
            signed("/test.txt", "", &[host, ("range", "bytes=0-9"), empty, date], EMPTY, "GET"),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let hash = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        let headers = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            host,
            ("x-amz-content-sha256", hash),
            date,
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        assert_eq!(
            signed("/test%24file.text", "", &headers, hash, "PUT"),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
        assert_eq!(
            signed("/", "max-keys=2&prefix=J", &[host, empty, date], EMPTY, "GET"),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn requests_name_bucket_object_and_part() {
        let ask = |action| example().request(action, "jam night/夜.mp4", "body".into(), at());
        let part = ask(Action::Part { upload: "a/b", number: 7 });
        assert_eq!(part.target, "/examplebucket/jam%20night/%E5%A4%9C.mp4?partNumber=7&uploadId=a%2Fb");
        assert_eq!((part.method, part.body), ("PUT", "body".into()));
        assert_eq!(ask(Action::Begin).target, "/examplebucket/jam%20night/%E5%A4%9C.mp4?uploads=");
        let tags = ["\"one\"".to_owned(), "\"two\"".to_owned()];
        let complete = ask(Action::Complete { upload: "u", tags: &tags });
        assert_eq!(
            complete.body,
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"one\"</ETag></Part>\
             <Part><PartNumber>2</PartNumber><ETag>\"two\"</ETag></Part></CompleteMultipartUpload>"
        );
        assert!(!format!("{:?} {:?}", example(), complete).contains("wJalr"), "the secret is in no request and no log");
    }

    #[test]
    fn answers_are_read_as_far_as_they_are_plain() {
        let begun =
            "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Key>k</Key><UploadId>VXBsb2Fk-1_.</UploadId>";
        assert_eq!(upload_of(begun).as_deref(), Some("VXBsb2Fk-1_."));
        for bad in ["", "<UploadId></UploadId>", "<UploadId>a b</UploadId>", "<UploadId>open"] {
            assert_eq!(upload_of(bad), None, "{bad}");
        }
        assert_eq!(error_of("<Error><Code>NoSuchBucket</Code></Error>").as_deref(), Some("NoSuchBucket"));
        assert_eq!(error_of("<CompleteMultipartUploadResult/>"), None);
        assert!(is_tag("\"9b2cf535f27731c974343645a3985328-2\"") && !is_tag("</ETag>") && !is_tag(""));
    }
}
