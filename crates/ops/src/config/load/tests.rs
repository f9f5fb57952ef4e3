//! What is read, what is refused and how that is said.

use super::super::{Config, Wal, check};
use super::*;
use crate::Locator;
use std::fs;

/// A directory as `/etc/backstay` is.
struct Etc(tempfile::TempDir);

impl Etc {
    fn with(files: &[(&str, &str)]) -> Etc {
        let etc = Etc(tempfile::tempdir().expect("temp dir"));
        fs::create_dir(etc.0.path().join("conf.d")).expect("mkdir");
        for (name, text) in files {
            fs::write(etc.0.path().join(name), text).expect("writes");
        }
        etc
    }

    fn files(&self) -> Files {
        Files::Standard { system: self.0.path().into(), user: None }
    }

    fn checked(&self) -> Checked {
        check(&self.files()).expect("can be read")
    }

    /// Each problem without the directory.
    fn said(&self, problems: &[Problem]) -> Vec<String> {
        let dir = format!("{}/", self.0.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&dir, "")).collect()
    }

    fn errors(&self) -> Vec<String> {
        self.said(&self.checked().errors)
    }

    fn config(&self) -> Config {
        Config::load(&self.files()).expect("is good")
    }
}

fn errors_of(text: &str) -> Vec<String> {
    Etc::with(&[("backstay.toml", text)]).errors()
}

/// Two repositories, a platform with files and a database.
const GOOD: &str = r#"version = 1
[defaults]
compression = "zstd:6"
[repository.main]
url = "repo"
key = "file:main.key"
[repository.offsite]
url = "s3://s3.example.org/bucket/main"
key = "cred:backstay-key"
credentials = { id = "env:AWS_ACCESS_KEY_ID", secret = "file:/run/secrets/aws" }
[platform.shop]
repositories = ["main", "offsite"]
[platform.shop.source.files]
kind = "files"
paths = ["config/", "/srv/shop"]
optional_paths = ["/etc/nginx"]
exclude = ["*.log", "!important.log"]
exclude_larger_than = "10M"
[platform.shop.source.db]
kind = "postgres"
connect = { host = "/run/postgresql", database = "shop", password = "cred:pg" }
physical = { wal = "continuous" }
dumps = [{ name = "orders", tables = ["public.orders"] }]
"#;

#[test]
fn a_good_file_is_read_with_its_defaults_and_paths_beside_it() {
    let etc = Etc::with(&[("backstay.toml", GOOD)]);
    let config = etc.config();
    let beside = |name: &str| etc.0.path().join(name);
    let (name, main) = config.repository("main").expect("is there");
    assert_eq!((name.to_string().as_str(), main.locator()), ("main", Locator::Local(beside("repo"))));
    assert_eq!(main.key.as_ref().map(ToString::to_string), Some(format!("file:{}", beside("main.key").display())));
    let (platform, source, files) = config.source("shop/files").expect("is there");
    assert_eq!(format!("{platform}/{source}"), "shop/files");
    let super::super::Source::Files(files) = files else { panic!("{files:?}") };
    assert_eq!(files.paths, [beside("config/"), "/srv/shop".into()]);
    // What the slash at the end asks for must not be lost.
    assert!(files.paths[0].as_os_str().as_encoded_bytes().ends_with(b"/"));
    assert_eq!(files.exclude_larger_than.map(|size| size.0), Some(10 << 20));
    let (_, _, db) = config.source("shop/db").expect("is there");
    let super::super::Source::Postgres(db) = db else { panic!("{db:?}") };
    assert_eq!((db.connect.port, db.connect.database.as_str()), (5432, "shop"));
    assert_eq!(db.physical.as_ref().map(|physical| (physical.wal, physical.verify_every)), Some((Wal::Continuous, 10)));
    let receive = db.physical.as_ref().map(|physical| &physical.receive).expect("has a default");
    assert_eq!((receive.slot.as_ref(), receive.interval.0.as_secs(), receive.held_warn.0), (None, 5, 8 << 30));
    assert!(db.logical.is_none() && db.dumps[0].tables == ["public.orders"]);
    assert_eq!(config.repository_of("shop").expect("has one").0.to_string(), "main");
}

#[test]
fn what_is_shown_is_read_as_the_same_and_holds_no_secret() {
    let etc = Etc::with(&[("backstay.toml", GOOD)]);
    let shown = etc.config().to_toml().expect("can be written");
    assert!(shown.contains("cred:pg") && shown.contains("port = 5432"), "{shown}");
    assert!(shown.contains("\"10M\"") && shown.contains("\"8G\"") && shown.contains("\"5s\""), "{shown}");
    let again = Etc::with(&[("backstay.toml", &shown)]);
    assert_eq!(again.config().settings(), etc.config().settings(), "{shown}");
}

#[test]
fn a_wrong_letter_is_found_with_its_line_and_the_word_that_was_meant() {
    let etc = Etc::with(&[("backstay.toml", &GOOD.replace("optional_paths", "optinal_paths"))]);
    let checked = etc.checked();
    let expect = "backstay.toml:16:1: platform.shop.source.files has no key \"optinal_paths\"";
    assert_eq!(etc.said(&checked.errors), [expect]);
    assert_eq!(checked.errors[0].help.as_deref(), Some("did you mean \"optional_paths\"?"));
    let failure = Config::load(&etc.files()).expect_err("is refused");
    assert_eq!((failure.exit, failure.code), (Exit::Usage, "config"));
    assert!(failure.what.ends_with(expect) && failure.help.as_deref() == Some("did you mean \"optional_paths\"?"));
}

#[test]
fn all_problems_are_told_at_once_in_their_order() {
    let text = r#"version = 1
[repository.main]
ulr = "/srv/repo"
[platform.shop]
repositories = ["mian"]
[platform.shop.source.a]
kind = "fils"
[platform.shop.source.b]
kind = "files"
paths = "/etc"
one_file_system = "yes"
[platform.shop.source.c]
kind = "postgres"
connect = { port = 70000, sslmode = "maybe" }
[platform.shop.source."d/e"]
kind = "files"
paths = ["/etc"]
"#;
    let errors = errors_of(text);
    let expect = [
        "backstay.toml:2:13: repository.main.url is missing",
        "backstay.toml:3:1: repository.main has no key \"ulr\"",
        "backstay.toml:7:8: platform.shop.source.a.kind: there is no kind of source \"fils\"",
        "backstay.toml:10:9: platform.shop.source.b.paths must be a list, and is text",
        "backstay.toml:11:19: platform.shop.source.b.one_file_system must be true or false, and is text",
        "backstay.toml:14:20: platform.shop.source.c.connect.port must be a number from 1 to 65535",
        "backstay.toml:14:37: platform.shop.source.c.connect.sslmode: \"maybe\" is none of disable, allow, prefer, \
         require, verify-ca, verify-full",
        "backstay.toml:15:23: \"d/e\" is no name for a source: use letters, digits, '.', '_' and '-', at most 64",
    ];
    assert_eq!(errors, expect, "{errors:#?}");
}

#[test]
fn what_contradicts_itself_is_an_error() {
    let check = |from: &str, to: &str, expect: &str| {
        assert!(GOOD.contains(from), "{from}");
        let errors = errors_of(&GOOD.replace(from, to));
        assert!(errors.len() == 1 && errors[0].contains(expect), "{expect}: {errors:?}");
    };
    check(
        "[\"main\", \"offsite\"]",
        "[\"main\", \"ofsite\"]",
        "12:1: platform.shop.repositories: there is no repository",
    );
    check("repositories = [\"main\", \"offsite\"]", "", "does not say in which repositories");
    let copy = "key = \"file:main.key\"\ncopy_from = \"mian\"";
    check("key = \"file:main.key\"", copy, "7:1: repository.main.copy_from: there is no repository \"mian\"");
    check("key = \"file:main.key\"", &copy.replace("mian", "main"), "nothing is a copy of itself");
    check("\"repo\"", "\"s3://s3.example.org/bucket/main\"", "repository.offsite.url is where repository \"main\" is");
    check("\"s3://s3.example.org/bucket/main\"", "\"/srv/offsite\"", "credentials are for buckets");
    check("\"s3://s3.example.org/bucket/main\"", "\"sftp://me@host/x\"", "repository.offsite.url: cannot open");
    check("paths = [\"config/\", \"/srv/shop\"]\noptional_paths = [\"/etc/nginx\"]", "", "names no paths");
    check("\"/srv/shop\"", "\"/srv/**/shop\"", "paths: ** is no name");
    check("\"*.log\"", "\"[a\"", "exclude pattern");
    check("\"10M\"", "\"ten\"", "is no size");
    check("\"zstd:6\"", "\"zstd:60\"", "defaults.compression");
    check(
        "physical = { wal = \"continuous\" }\ndumps = [{ name = \"orders\", tables = [\"public.orders\"] }]",
        "",
        "does not say how it is backed up",
    );
    let physical = "physical = { wal = \"continuous\" }";
    let receive = |keys: &str| format!("physical = {{ receive = {{ {keys} }} }}");
    check(physical, &receive("slot = \"Shop-1\""), "receive.slot: \"Shop-1\" cannot be a slot");
    check(physical, &receive("interval = \"0s\""), "receive.interval: \"0s\" is no length of time");
    check(physical, "physical = { method = \"ssh\" }", "\"ssh\" is none of auto, local, remote");
    let connect = |keys: &str| format!("password = \"cred:pg\", {keys}");
    check("password = \"cred:pg\"", &connect("sslmode = \"verify-full\""), "does not say who is trusted");
    check("password = \"cred:pg\"", &connect("sslcert = \"me.pem\""), "sslcert and sslkey belong together");
    check("tables = [\"public.orders\"] }", "}, { name = \"orders\" }", "there are two of the name \"orders\"");
}

#[test]
fn a_secret_in_the_file_is_refused_and_never_repeated() {
    for (from, to) in [
        ("\"file:main.key\"", "\"hunter2\""),
        ("\"cred:pg\"", "\"hunter2\""),
        ("\"cred:pg\"", "[\"hunter2\"]"),
        ("\"env:AWS_ACCESS_KEY_ID\"", "\"hunter2:x\""),
        ("password = \"cred:pg\"", "pasword = \"hunter2\""),
        ("password = \"cred:pg\"", "password = \"hunter2"),
        ("password = \"cred:pg\"", "password = hunter2"),
        ("\"s3://s3.example.org/bucket/main\"", "\"s3://me:hunter2@s3.example.org/bucket\""),
    ] {
        let etc = Etc::with(&[("backstay.toml", &GOOD.replace(from, to))]);
        let checked = etc.checked();
        assert!(!checked.errors.is_empty() && !format!("{checked:?}").contains("hunter2"), "{to}: {checked:?}");
        let failure = Config::load(&etc.files()).expect_err("is refused");
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
    }
    let errors = errors_of(&GOOD.replace("\"cred:pg\"", "\"hunter2\""));
    assert!(errors[0].contains("connect.password: a secret must not stand in the configuration"), "{errors:?}");
}

#[test]
fn files_of_conf_d_are_one_configuration_with_the_first() {
    let more = "version = 1\n[platform.shop.source.web]\nkind = \"files\"\npaths = [\"web\"]\n";
    let files =
        [("backstay.toml", GOOD), ("conf.d/20-web.toml", more), ("conf.d/x.toml~", "x"), ("conf.d/.y.toml", "y")];
    let etc = Etc::with(&files);
    let config = etc.config();
    let names: Vec<String> =
        config.sources("shop").expect("is there").iter().map(|(_, name, _)| name.to_string()).collect();
    assert_eq!(names, ["db", "files", "web"]);
    assert_eq!(config.files().len(), 2);
    // A path is relative to the file that names it.
    let shown = config.shown();
    let web = etc.0.path().join("conf.d/web");
    assert_eq!(shown["platform"]["shop"]["source"]["web"]["paths"][0], web.to_str().expect("text"));
    let only = Etc::with(&[("conf.d/all.toml", GOOD)]);
    assert_eq!(only.config().files().len(), 1);
}

#[test]
fn a_key_that_two_files_set_is_named_in_both() {
    let more = "version = 1\n[repository.main]\nurl = \"/elsewhere\"\n";
    let etc = Etc::with(&[("backstay.toml", GOOD), ("conf.d/a.toml", more)]);
    let first = etc.0.path().join("backstay.toml").display().to_string();
    let checked = etc.checked();
    assert_eq!(etc.said(&checked.errors).len(), 1);
    let what = checked.errors[0].to_string();
    assert!(what.contains("conf.d/a.toml:3:1: \"url\" is set already at") && what.contains(&format!("{first}:5:1")));
}

#[test]
fn every_file_says_its_version_and_a_later_one_is_not_read_further() {
    assert_eq!(errors_of("[repository.main]\nurl = \"/x\"\n"), ["backstay.toml:1:1: version is missing"]);
    assert_eq!(
        errors_of("[future]\nx = 1\n\n[repository.main]\nversion = 1\n").len(),
        4,
        "a version elsewhere is none: it is missing, and three keys are wrong"
    );
    assert_eq!(errors_of("version = 2\nfuture = 1\n"), ["backstay.toml:1:11: version 2 is of a later backstay"]);
    let etc = Etc::with(&[("backstay.toml", GOOD), ("conf.d/a.toml", "[repository.x]\nurl = \"/x\"\n")]);
    assert_eq!(etc.errors(), ["conf.d/a.toml:1:1: version is missing"]);
}

#[test]
fn text_that_is_no_toml_is_an_error_where_it_stands() {
    let errors = errors_of("version = 1\n[repository.main\nurl = \"/x\"\n[repository.b]\nurl = \n");
    assert!(errors.len() >= 2 && errors[0].contains("backstay.toml:2:"), "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("this is no TOML")), "{errors:?}");
}

#[test]
fn the_users_own_file_counts_where_the_machine_has_none() {
    let (machine, user) = (Etc::with(&[]), Etc::with(&[("backstay.toml", GOOD)]));
    let files = Files::Standard { system: machine.0.path().into(), user: Some(user.0.path().into()) };
    assert_eq!(Config::load(&files).expect("is good").files(), [user.0.path().join("backstay.toml")]);
    fs::write(machine.0.path().join("backstay.toml"), "version = 1\n").expect("writes");
    assert_eq!(Config::load(&files).expect("is good").files(), [machine.0.path().join("backstay.toml")]);
    assert_eq!(
        Config::load(&Files::Standard { system: "/nowhere".into(), user: None }).expect("is empty").files().len(),
        0
    );
    let failure = Config::load(&Files::Named("/nowhere/backstay.toml".into())).expect_err("is not there");
    assert_eq!(failure.code, "config-unreadable");
}

#[test]
fn the_example_of_five_platforms_is_good_and_says_what_has_no_effect_yet() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/platforms.toml");
    let checked = check(&Files::Named(path.into())).expect("can be read");
    assert_eq!(checked.errors, []);
    let config = checked.config.expect("has no errors");
    assert_eq!(config.settings().platform.len(), 5);
    let warnings: Vec<String> = checked.warnings.iter().map(|warning| warning.what.clone()).collect();
    let about = |word: &str| warnings.iter().filter(|warning| warning.contains(word)).count();
    assert_eq!(about("key \"schedule\""), 1, "{warnings:#?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("\"class\" is not used by this version (")),
        "{warnings:#?}"
    );
    assert_eq!(
        (about("sources of kind \"redis\""), about("connect.via"), about("encrypt_to")),
        (1, 1, 1),
        "{warnings:#?}"
    );
}

#[test]
fn names_are_looked_up_with_a_hint_where_there_is_none() {
    let config = Etc::with(&[("backstay.toml", GOOD)]).config();
    let told = |failure: Failure| (failure.code, failure.help.unwrap_or_default());
    let failed = |text: &str| config.source(text).map(drop).map_err(told);
    assert_eq!(failed("shpo/db"), Err(("unknown-platform", "did you mean \"shop\"?".into())));
    assert_eq!(failed("shop/dbs"), Err(("unknown-source", "did you mean \"db\"?".into())));
    assert_eq!(failed("shop/x-files-x"), Err(("unknown-source", "there are db, files".into())));
    assert_eq!(config.default_repository().expect("that of the only platform").0.to_string(), "main");
    let two = Etc::with(&[(
        "backstay.toml",
        &GOOD.replace("[platform.shop]", "[platform.b]\nrepositories = [\"main\"]\n[platform.shop]"),
    )]);
    let failure = two.config().default_repository().map(drop).expect_err("it could be either");
    assert_eq!(told(failure), ("which-repository", "name one with --repo: main, offsite".into()));
}
