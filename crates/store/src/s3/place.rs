//! Where a repository is on a service that speaks S3, as people write it.
//!
//! What it may not know: credentials, requests. Where data comes from: an address on the command line.

use crate::error::{Kind, StoreError};
use std::fmt;
use std::net::IpAddr;

/// A bucket on a service, and the prefix that all names of one repository share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    scheme: Scheme,
    /// Host, with a port where one was given.
    host: String,
    bucket: String,
    /// Without `/` at either end; empty for the whole bucket.
    prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl S3Place {
    /// The place that an address names: `s3://HOST[:PORT]/BUCKET[/PREFIX]` and restic's `s3:HOST/BUCKET[/PREFIX]`, both by
    /// TLS, and `s3:https://…` and `s3:http://…`. `None` when the text is an address of another kind.
    ///
    /// # Errors
    /// `Unsuitable` when it is no usable address; the error never repeats what may be a secret in it.
    pub fn parse(text: &str) -> Option<Result<S3Place, StoreError>> {
        let rest = text.strip_prefix("s3:")?;
        let (scheme, rest) = match rest.split_once("//") {
            Some(("", rest) | ("https:", rest)) => (Scheme::Https, rest),
            Some(("http:", rest)) => (Scheme::Http, rest),
            _ => (Scheme::Https, rest),
        };
        Some(S3Place::parts(scheme, rest).map_err(|why| StoreError::new(Kind::Unsuitable, "read the address", why)))
    }

    fn parts(scheme: Scheme, rest: &str) -> Result<S3Place, String> {
        if rest.contains('@') {
            return Err(
                "credentials do not belong in it: put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into()
            );
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_');
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(format!("{host:?} is no host: write s3://HOST/BUCKET/PREFIX"));
        }
        let is_bucket = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_bucket) || bucket.starts_with('.') {
            return Err(format!("{bucket:?} is no bucket's name: write s3://HOST/BUCKET/PREFIX"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_part = |part: &str| {
            let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'=');
            !matches!(part, "" | "." | "..") && part.bytes().all(is_known)
        };
        if !prefix.is_empty() && (prefix.len() > 500 || !prefix.split('/').all(is_part)) {
            return Err(format!("{prefix:?} is no usable prefix: use a-z A-Z 0-9 . - _ = in parts between single /"));
        }
        Ok(S3Place { scheme, host: host.to_owned(), bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    pub(super) fn endpoint(&self) -> String {
        match self.scheme {
            Scheme::Http => format!("http://{}", self.host),
            Scheme::Https => format!("https://{}", self.host),
        }
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The region in the names that Amazon gives its hosts: `s3.eu-west-1.amazonaws.com`.
    pub(super) fn region(&self) -> Option<&str> {
        let name = self.host.strip_suffix(".amazonaws.com")?;
        let region = name.strip_prefix("s3.").or_else(|| name.strip_prefix("s3-"))?;
        let region = region.strip_prefix("dualstack.").unwrap_or(region);
        (!region.is_empty() && !region.contains('.')).then_some(region)
    }

    /// Whether requests cross a network in clear.
    pub(super) fn is_exposed(&self) -> bool {
        let name = match self.host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(""),
            None => self.host.split(':').next().unwrap_or(""),
        };
        let loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.scheme == Scheme::Http && !loopback
    }
}

/// The address, in the one form that names this place in messages and memory.
impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Https => write!(f, "s3://{}/{}", self.host, self.bucket)?,
            Scheme::Http => write!(f, "s3:http://{}/{}", self.host, self.bucket)?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<S3Place, StoreError> {
        S3Place::parse(text).expect("it is an address of this kind")
    }

    #[test]
    fn one_place_has_one_name_however_it_is_written() {
        for (text, name) in [
            ("s3://minio:9000/bucket/a/b", "s3://minio:9000/bucket/a/b"),
            ("s3:https://minio:9000/bucket/a/b/", "s3://minio:9000/bucket/a/b"),
            ("s3:minio:9000/bucket/a/b", "s3://minio:9000/bucket/a/b"),
            ("s3:http://127.0.0.1:7480/bucket", "s3:http://127.0.0.1:7480/bucket"),
            ("s3:s3.amazonaws.com/bucket/", "s3://s3.amazonaws.com/bucket"),
            ("s3:http://[::1]:80/bucket/x", "s3:http://[::1]:80/bucket/x"),
        ] {
            let place = parsed(text).expect(text);
            assert_eq!(place.to_string(), name, "{text}");
            assert_eq!(parsed(&place.to_string()).expect(text), place, "{text}");
        }
        for text in ["/srv/repo", "s3", "sftp://s3:22/x", ""] {
            assert!(S3Place::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn addresses_that_name_no_place_are_refused_without_repeating_secrets() {
        for text in [
            "s3:",
            "s3://",
            "s3://host",
            "s3://host/",
            "s3://host/b",
            "s3://host/bucket//x",
            "s3://host/bucket/../x",
            "s3://host/bucket/a b",
            "s3://host/bucket/ü",
            "s3://ho st/bucket",
            "s3://host/bucket?x",
            "s3:ftp://host/bucket",
        ] {
            assert_eq!(parsed(text).expect_err(text).kind, Kind::Unsuitable, "{text}");
        }
        let why = parsed("s3://key:secret@host/bucket").expect_err("refused").to_string();
        assert!(!why.contains("secret@") && !why.contains("key:"), "{why}");
    }

    #[test]
    fn the_region_is_read_from_amazon_names_only() {
        for (text, region) in [
            ("s3:s3.eu-west-1.amazonaws.com/bucket", Some("eu-west-1")),
            ("s3:s3-eu-west-1.amazonaws.com/bucket", Some("eu-west-1")),
            ("s3:s3.dualstack.us-west-2.amazonaws.com/bucket", Some("us-west-2")),
            ("s3:s3.amazonaws.com/bucket", None),
            ("s3:s3.eu-central-1.example.com/bucket", None),
        ] {
            assert_eq!(parsed(text).expect(text).region(), region, "{text}");
        }
    }

    #[test]
    fn only_clear_text_that_leaves_this_machine_is_exposed() {
        for (text, exposed) in [
            ("s3:http://127.0.0.1:9000/bucket", false),
            ("s3:http://localhost/bucket", false),
            ("s3:http://[::1]:9000/bucket", false),
            ("s3:http://10.0.0.1:9000/bucket", true),
            ("s3:http://localhost.example/bucket", true),
            ("s3://10.0.0.1/bucket", false),
        ] {
            assert_eq!(parsed(text).expect(text).is_exposed(), exposed, "{text}");
        }
    }
}
