//! Requests to a bucket of S3, or of a server that speaks the same.
//!
//! Each request has its signature in its URL (AWS Signature Version 4, "Authenticating Requests: Using
//! Query Parameters" in the Amazon S3 API Reference), so that they go through the same client as all
//! others.

use std::fmt;

use avocado_http::{RepositoryUrl, RepositoryUrlError};
use avocado_manifest::Digest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::hmac;

/// How long a request may take to the server, in seconds: clocks differ.
const EXPIRES: u32 = 900;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who asks, as the provider of the bucket calls it.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketCredentials {
    /// The id of the access key.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// What goes with keys that hold for some hours.
    pub session_token: Option<String>,
}

/// Nothing of it is for a log.
impl fmt::Debug for BucketCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketCredentials").finish_non_exhaustive()
    }
}

/// Why a bucket cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The server's URL is none.
    #[error("the endpoint of the bucket cannot be used")]
    Endpoint(#[from] RepositoryUrlError),
    /// A name has something in it that is spelt in several ways in a URL, of which the signature knows one.
    #[error("`{0}` has a character in it other than letters, digits and `-._~/`")]
    Name(String),
}

/// What is below a prefix in a bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The bucket with the prefix at its server: the server's own way of writing it, not that of a host for
    /// each bucket, which not every server has.
    url: RepositoryUrl,
    /// The region that the server counts itself to.
    region: String,
    credentials: BucketCredentials,
    clock: fn() -> Timestamp,
}

impl Bucket {
    /// The bucket `name` of the server at `endpoint`, and in it what is below `prefix`, which may be empty.
    ///
    /// # Errors
    /// When these make no URL.
    pub fn new(
        endpoint: &RepositoryUrl,
        name: &str,
        prefix: &str,
        region: &str,
        credentials: BucketCredentials,
    ) -> Result<Self, BucketError> {
        let path = format!("{name}/{prefix}");
        for part in [path.as_str(), region] {
            if !part.bytes().all(|byte| is_unreserved(byte) || byte == b'/') {
                return Err(BucketError::Name(part.to_owned()));
            }
        }
        Ok(Bucket {
            url: endpoint.below(path.trim_end_matches('/'))?,
            region: region.to_owned(),
            credentials,
            clock: Timestamp::now,
        })
    }

    /// Where it is, as requests go there.
    pub fn url(&self) -> &RepositoryUrl {
        &self.url
    }

    /// The URL of one request for the object `name`, which holds for some minutes. It is as secret as
    /// what it gives is.
    pub(super) fn signed(&self, method: &str, name: &str) -> String {
        self.signed_for(method, name, EXPIRES)
    }

    fn signed_for(&self, method: &str, name: &str, expires: u32) -> String {
        let url = self.url.join(name);
        let (_, rest) = url.split_once("://").unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let now = (self.clock)().to_zoned(TimeZone::UTC);
        let (day, time) = (now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ"));
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let credential = format!("{}/{scope}", self.credentials.access_key);
        let token = self.credentials.session_token.as_deref();
        // In the order of their names.
        let parameters = [
            ("X-Amz-Algorithm", Some(ALGORITHM.to_owned())),
            ("X-Amz-Credential", Some(encoded(&credential))),
            ("X-Amz-Date", Some(time.to_string())),
            ("X-Amz-Expires", Some(expires.to_string())),
            ("X-Amz-Security-Token", token.map(encoded)),
            ("X-Amz-SignedHeaders", Some("host".to_owned())),
        ];
        let parameters = parameters.iter();
        let parameters = parameters.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<String> = parameters
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let query = query.join("&");
        // What is asked for and given is verified by its digest, on both ways.
        let request = format!("{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
        let text = format!(
            "{ALGORITHM}\n{time}\n{scope}\n{}",
            Digest::of(request.as_bytes())
        );
        let mut key = keyed(
            format!("AWS4{}", self.credentials.secret_key).as_bytes(),
            &day.to_string(),
        );
        for part in [self.region.as_str(), "s3", "aws4_request", &text] {
            key = keyed(key.as_ref(), part);
        }
        let signature: String = key.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("{url}?{query}&X-Amz-Signature={signature}")
    }
}

fn keyed(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// As `UriEncode` of the signature's specification has it, slashes included.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if is_unreserved(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(endpoint: &str, name: &str, prefix: &str) -> Result<Bucket, BucketError> {
        // The keys of the examples in Amazon's documentation.
        let credentials = BucketCredentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let made = Bucket::new(
            &endpoint.parse().unwrap(),
            name,
            prefix,
            "us-east-1",
            credentials,
        )?;
        Ok(Bucket {
            clock: || "2013-05-24T00:00:00Z".parse().unwrap(),
            ..made
        })
    }

    /// The example of the Amazon S3 API Reference, in which the bucket is a part of the host.
    #[test]
    fn a_request_is_signed_as_the_specification_says() {
        let whole = bucket("https://examplebucket.s3.amazonaws.com", "", "").unwrap();
        assert_eq!(
            whole.signed_for("GET", "test.txt", 86_400),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn an_object_is_below_the_bucket_and_its_prefix() {
        for (endpoint, name, prefix, url) in [
            ("https://s3.example", "b", "", "https://s3.example/b/cas/x?"),
            (
                "https://S3.example:443/",
                "b",
                "a/c",
                "https://s3.example/b/a/c/cas/x?",
            ),
            ("http://h:9000/at", "b", "p/", "http://h:9000/at/b/p/cas/x?"),
        ] {
            let signed = bucket(endpoint, name, prefix)
                .unwrap()
                .signed("GET", "cas/x");
            assert!(signed.starts_with(url), "{signed}");
        }
        for prefix in ["a b", "a%20", "a?b", "ä"] {
            bucket("https://s3.example", "b", prefix).unwrap_err();
        }
    }

    #[test]
    fn every_part_of_a_request_is_signed() {
        let signature = |bucket: &Bucket, method, name| {
            let url = bucket.signed(method, name);
            url.rsplit_once('=').unwrap().1.to_owned()
        };
        let one = bucket("https://s3.example", "b", "p").unwrap();
        let mut seen = vec![signature(&one, "GET", "x")];
        seen.push(signature(&one, "PUT", "x"));
        seen.push(signature(&one, "GET", "y"));
        let other_host = bucket("https://s3.example:1", "b", "p").unwrap();
        seen.push(signature(&other_host, "GET", "x"));
        let mut changed = one.clone();
        changed.region = "eu-central-1".into();
        seen.push(signature(&changed, "GET", "x"));
        let mut changed = one.clone();
        changed.credentials.secret_key.push('x');
        seen.push(signature(&changed, "GET", "x"));
        let mut changed = one.clone();
        changed.credentials.session_token = Some("t/+=".into());
        assert!(
            changed
                .signed("GET", "x")
                .contains("&X-Amz-Security-Token=t%2F%2B%3D&")
        );
        seen.push(signature(&changed, "GET", "x"));
        changed.clock = || "2013-05-24T00:00:01Z".parse().unwrap();
        seen.push(signature(&changed, "GET", "x"));
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
        let shown = format!("{one:?}");
        assert!(!shown.contains("EXAMPLE"), "{shown}");
    }
}
