//! How a bucket is reached that has the cache in it.

use avocado_build::{BucketAccess, BucketCredentials};
use avocado_project::CacheBucket;

/// As the project says, or else by the variables that other programs go by as well. `variable` is one of
/// the environment.
pub(super) fn bucket_access(
    place: &CacheBucket,
    variable: &dyn Fn(&str) -> Option<String>,
) -> BucketAccess {
    let first = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| variable(name));
        values.find(|value| !value.is_empty())
    };
    let region = place.region.clone();
    let region = region
        .or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let endpoint = place.endpoint.clone();
    let endpoint = endpoint
        .or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]))
        .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let keys = first(&["AWS_ACCESS_KEY_ID"]).zip(first(&["AWS_SECRET_ACCESS_KEY"]));
    let credentials = keys.map(|(access_key, secret_key)| BucketCredentials {
        access_key,
        secret_key,
        session_token: first(&["AWS_SESSION_TOKEN"]),
    });
    BucketAccess {
        endpoint,
        region,
        credentials,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_counts_before_the_environment() {
        let all = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", "https://all.example"),
            ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
        ];
        for (variables, endpoint, region) in [
            (&all[..], "https://s3.example", "eu-central-1"),
            (&all[1..3], "https://all.example", "eu-west-1"),
            (
                &all[..1],
                "https://s3.eu-central-1.amazonaws.com",
                "eu-central-1",
            ),
            (&[], "https://s3.us-east-1.amazonaws.com", "us-east-1"),
            (
                &[("AWS_REGION", "")],
                "https://s3.us-east-1.amazonaws.com",
                "us-east-1",
            ),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let mut place = CacheBucket {
                name: "b".into(),
                prefix: String::new(),
                endpoint: None,
                region: None,
            };
            let access = bucket_access(&place, &variable);
            assert_eq!(
                (access.endpoint.as_str(), access.region.as_str()),
                (endpoint, region)
            );
            place.endpoint = Some("http://h:1".into());
            place.region = Some("here".into());
            let access = bucket_access(&place, &variable);
            assert_eq!(
                (access.endpoint.as_str(), access.region.as_str()),
                ("http://h:1", "here")
            );
        }
    }

    #[test]
    fn who_asks_is_said_by_two_variables() {
        let place = CacheBucket {
            name: "b".into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
        };
        let names = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        ];
        for count in 0..=3 {
            let variable = |name: &str| names[..count].contains(&name).then(|| name.to_owned());
            let credentials = bucket_access(&place, &variable).credentials;
            assert_eq!(credentials.is_some(), count >= 2);
            let token = credentials.and_then(|credentials| credentials.session_token);
            assert_eq!(token.is_some(), count == 3);
        }
    }
}
