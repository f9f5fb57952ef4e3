//! The store on a real service. `tests/s3.sh` starts services, makes buckets and says where they are.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use store::{S3Identity, S3Place, S3Store, Store, World, conformance};

/// Where an empty prefix is: `s3:http://127.0.0.1:PORT/bucket/prefix`.
fn place(name: &str) -> S3Place {
    let address = std::env::var("BACKSTAY_TEST_S3").expect("BACKSTAY_TEST_S3 says where an empty prefix is");
    S3Place::parse(&format!("{address}/{name}")).unwrap().unwrap()
}

#[test]
#[ignore = "needs a service: tests/s3.sh"]
fn the_store_in_a_bucket_does_what_every_store_must() {
    let n = AtomicU32::new(0);
    conformance::check(|| {
        let place = place(&format!("conformance/{}", n.fetch_add(1, Ordering::SeqCst)));
        Store::new(Arc::new(S3Store::create(&place, &World::real(), S3Identity::Surroundings).unwrap()))
    });
}
