use super::*;

/// RFC 9421, appendix B.1.4: `test-key-ed25519`.
const TEST_KEY: &str = "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=";
const TEST_PUBLIC_KEY: &str = "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";

const NOW_S: i64 = 1_795_000_000;
const REQUEST: Signed<'_> = Signed {
    method: "POST",
    path: "/v1/agents/host-1/reports",
    query: Some("a=1&b=2"),
    body: b"{\"complete\": true}",
    session: Some("00112233445566778899aabbccddeeff"),
};

fn test_key() -> HostKey {
    let bytes: [u8; 32] = STANDARD.decode(TEST_KEY).expect("base64").try_into().expect("32 bytes");
    HostKey::from_bytes(&bytes)
}

fn other_key() -> HostKey {
    HostKey::from_bytes(&[5; 32])
}

type Headers = Vec<(&'static str, String)>;

fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
}

fn verified(request: &Signed<'_>, headers: &Headers, key: &HostKey) -> Result<(), Unproven> {
    verify(request, |name| header(headers, name), ("host-1", &key.public_hex()), NOW_S)
}

/// RFC 9421, appendix B.2.6: its request, its base, its signature.
#[test]
fn the_signature_is_that_of_the_standard() {
    let parameters = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                      \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let base = base(
        &[
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@method", "POST"),
            ("@path", "/foo"),
            ("@authority", "example.com"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ],
        parameters,
    );
    let signature = test_key().0.sign(base.as_bytes());
    assert_eq!(
        STANDARD.encode(signature.to_bytes()),
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    );
    let public = STANDARD.decode(TEST_PUBLIC_KEY).expect("base64");
    assert_eq!(test_key().0.verifying_key().as_bytes().as_slice(), public);
}

/// RFC 9530, appendix D.
#[test]
fn the_digest_is_that_of_the_standard() {
    let body = b"{\"hello\": \"world\"}\n";
    assert_eq!(digest(body), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    assert_eq!(digest(b""), "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
}

#[test]
fn what_is_signed_is_written_out() {
    let headers = test_key().sign(&Signed { query: None, ..REQUEST }, "host-1", 12);
    let input = header(&headers, SIGNATURE_INPUT).expect("an input");
    assert_eq!(
        input,
        "host=(\"@method\" \"@path\" \"@query\" \"content-digest\" \"x-eventplane-session\");\
         created=12;keyid=\"host-1\";alg=\"ed25519\""
    );
    let presented =
        Presented::read(&Signed { query: None, ..REQUEST }, |name| header(&headers, name));
    let told = presented.expect("it is whole");
    assert_eq!(told.host, "host-1");
    assert_eq!(
        told.base,
        format!(
            "\"@method\": POST\n\"@path\": /v1/agents/host-1/reports\n\"@query\": ?\n\
             \"content-digest\": {}\n\
             \"x-eventplane-session\": 00112233445566778899aabbccddeeff\n\
             \"@signature-params\": {}",
            digest(REQUEST.body),
            &input[LABEL.len()..]
        )
    );
}

#[test]
fn a_request_as_it_was_signed_is_its_hosts() {
    for request in [
        REQUEST,
        Signed { session: None, ..REQUEST },
        Signed { query: None, body: b"", method: "GET", ..REQUEST },
    ] {
        for created_s in [NOW_S, NOW_S - 300, NOW_S + 300] {
            let headers = test_key().sign(&request, "host-1", created_s);
            assert_eq!(verified(&request, &headers, &test_key()), Ok(()), "{request:?}");
        }
    }
}

#[test]
fn a_change_of_anything_that_is_signed_is_noticed() {
    let headers = test_key().sign(&REQUEST, "host-1", NOW_S);
    for changed in [
        Signed { method: "PUT", ..REQUEST },
        Signed { path: "/v1/agents/host-1/report", ..REQUEST },
        Signed { query: Some("a=1&b=3"), ..REQUEST },
        Signed { query: None, ..REQUEST },
        Signed { session: Some("00112233445566778899aabbccddeef0"), ..REQUEST },
    ] {
        assert_eq!(verified(&changed, &headers, &test_key()), Err(Unproven::Wrong), "{changed:?}");
    }
    let other_body = Signed { body: b"{\"complete\": false}", ..REQUEST };
    let refused = verified(&other_body, &headers, &test_key());
    assert_eq!(refused, Err(Unproven::Body(digest(other_body.body))));
    // A digest that fits the new body is not the one that was signed.
    let mut fitting = headers.clone();
    fitting[0].1 = digest(other_body.body);
    assert_eq!(verified(&other_body, &fitting, &test_key()), Err(Unproven::Wrong));
    for session in [None, Some("")] {
        let without = verified(&Signed { session, ..REQUEST }, &headers, &test_key());
        let is_refused = match session {
            None => matches!(without, Err(Unproven::Form(_))),
            Some(_) => without == Err(Unproven::Wrong),
        };
        assert!(is_refused, "{without:?}");
    }
}

#[test]
fn another_key_another_host_and_another_moment_are_refused() {
    let headers = test_key().sign(&REQUEST, "host-1", NOW_S);
    assert_eq!(verified(&REQUEST, &headers, &other_key()), Err(Unproven::Wrong));
    let of_another = test_key().sign(&REQUEST, "host-2", NOW_S);
    assert_eq!(verified(&REQUEST, &of_another, &test_key()), Err(Unproven::Wrong));
    for created_s in [NOW_S - 301, NOW_S + 301, i64::MIN, i64::MAX] {
        let headers = test_key().sign(&REQUEST, "host-1", created_s);
        let refused = verified(&REQUEST, &headers, &test_key()).expect_err("too old, or too new");
        assert_eq!(refused, Unproven::Skew { created_s, now_s: NOW_S });
        assert!(refused.to_string().contains("1795000000"), "{refused}");
    }
    // The moment is signed too.
    let mut moved = test_key().sign(&REQUEST, "host-1", NOW_S - 301);
    moved[1].1 = moved[1].1.replace("1794999699", "1795000000");
    assert_eq!(verified(&REQUEST, &moved, &test_key()), Err(Unproven::Wrong));
}

#[test]
fn another_form_is_refused_with_the_form_that_is_right() {
    let good = test_key().sign(&REQUEST, "host-1", NOW_S);
    for (name, at) in [(CONTENT_DIGEST, 0), (SIGNATURE_INPUT, 1), (SIGNATURE, 2)] {
        let mut headers = good.clone();
        headers.remove(at);
        assert_eq!(verified(&REQUEST, &headers, &test_key()), Err(Unproven::Missing(name)));
    }
    let input = good[1].1.clone();
    for bad in [
        "".to_owned(),
        input.replace("host=", "sig1="),
        input.replace(" \"@query\"", ""),
        input.replace("\"@method\" \"@path\"", "\"@path\" \"@method\""),
        input.replace("ed25519", "hmac-sha256"),
        input.replace("created=", "created=+"),
        input.replace("created=", "created=0"),
        format!("{input};expires=1"),
        format!("{input}, {input}"),
        input.replace(";keyid=\"host-1\"", ""),
    ] {
        let mut headers = good.clone();
        headers[1].1 = bad.clone();
        let refused = verified(&REQUEST, &headers, &test_key()).expect_err("another form");
        assert!(matches!(refused, Unproven::Form(_)), "{bad}: {refused}");
        assert!(refused.to_string().contains("(\"@method\" \"@path\" \"@query\""), "{refused}");
    }
    let signature = good[2].1.clone();
    for bad in ["", "host=", "host=::", "host=:AAAA:", &signature[5..], &signature[..20]] {
        let mut headers = good.clone();
        headers[2].1 = bad.to_owned();
        assert_eq!(verified(&REQUEST, &headers, &test_key()), Err(Unproven::Wrong), "{bad}");
    }
}

#[test]
fn a_public_key_is_64_digits_of_a_point_that_can_sign() {
    let good = test_key().public_hex();
    assert!(is_public_key(&good));
    let weak = format!("01{}", "0".repeat(62));
    let no_point = format!("02{}", "0".repeat(62));
    let long = format!("{good}0");
    for bad in ["", &good[1..], &good.to_uppercase(), &long, &weak, &no_point, &"é".repeat(32)] {
        assert!(!is_public_key(bad), "{bad}");
    }
}

#[test]
fn no_output_shows_the_key() {
    let shown = format!("{:?}", test_key());
    assert!(shown.contains(&test_key().public_hex()) && shown.contains("hidden"));
    assert!(!shown.contains("9f8362f8"), "{shown}");
}
