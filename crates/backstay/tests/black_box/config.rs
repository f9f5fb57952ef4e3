//! Working through a configuration: two repositories, platforms and their sources.

use crate::lab::{Lab, PASSPHRASE, Said};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;

/// Two repositories with keys of their own; a platform with two sources of files, and what this version cannot back up.
const SHOP: &str = r#"version = 1
[repository.main]
url = "repos/main"
key = "file:main.key"
[repository.offsite]
url = "repos/offsite"
key = "cmd:cat offsite.key"
[platform.shop]
repositories = ["main", "offsite"]
[platform.shop.source.web]
kind = "files"
paths = ["web/", "sessions/*.session"]
optional_paths = ["not/there"]
exclude = ["*.log"]
[platform.shop.source.etc]
kind = "files"
paths = ["etc"]
"#;

const PROBLEMS: &str = r#"version = 1
[repository.main]
url = "repos/main"
key = "hunter2"
[platform.shop.source.web]
kind = "files"
pahts = ["web"]
"#;

/// With the configuration and what it names; nothing else says which repository or key is meant.
struct Shop(Lab);

impl Shop {
    fn new(config: &str) -> Shop {
        let shop = Shop(Lab::bare());
        for name in ["main.key", "offsite.key"] {
            shop.0.write(name, format!("{PASSPHRASE} {name}\n").as_bytes());
            fs::set_permissions(shop.0.path(name), fs::Permissions::from_mode(0o600)).expect("chmod");
        }
        for name in ["web/index.html", "web/access.log", "sessions/a.session", "sessions/b", "etc/shop.conf"] {
            shop.0.write(name, name.as_bytes());
        }
        shop.0.write("backstay.toml", config.as_bytes());
        shop
    }

    fn run<const N: usize>(&self, args: [&str; N]) -> Said {
        let mut command = self.0.command(args);
        command.env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_KEY_FILE");
        Said::of(command.env("BACKSTAY_CONFIG", self.0.path("backstay.toml")))
    }

    #[track_caller]
    fn ok<const N: usize>(&self, args: [&str; N]) -> Said {
        self.run(args).ends_with(0)
    }

    /// The sources of the snapshots that are listed.
    #[track_caller]
    fn sources<const N: usize>(&self, args: [&str; N]) -> Vec<String> {
        let listed = self.ok(args).json();
        let listed = listed.as_array().expect("an array");
        listed.iter().map(|snapshot| snapshot["source"].as_str().unwrap_or("none").to_owned()).collect()
    }
}

#[test]
fn init_makes_what_is_configured_and_not_there_and_says_so_of_each() {
    let shop = Shop::new(SHOP);
    shop.ok(["init", "-r", "offsite"]).shows("repos/offsite");
    assert!(!shop.0.path("repos/main").exists());
    let said = shop.ok(["init"]).shows("made repository main").shows("repository offsite is there already");
    assert!(said.out.contains("backstay key kit -r main"), "{}", said.out);
    let lines = shop.ok(["init", "--json"]).lines();
    assert_eq!(lines.iter().filter(|line| line["message_type"] == "exists").count(), 2);
    assert_eq!(lines.last().expect("a line")["present"], serde_json::json!(["main", "offsite"]));
    shop.run(["init", "--generate-key", "new.key"]).ends_with(2).complains("several").helps();
    // Each by its own key, from where the configuration is and not from where the program runs.
    shop.ok(["snapshots", "-r", "main"]);
    shop.ok(["snapshots", "-r", "offsite"]);
    shop.run(["snapshots", "-r", "offsite", "--key-file", "main.key"]).ends_with(12);
}

#[test]
fn one_repository_that_cannot_be_made_does_not_keep_the_others_from_it() {
    let shop = Shop::new(&SHOP.replace("file:main.key", "file:no.key"));
    let said = shop.run(["init"]).ends_with(12).complains("repository main").shows("made repository offsite");
    assert!(said.err.contains("backstay init -r main --generate-key"), "{}", said.err);
    shop.ok(["init", "-r", "main", "--generate-key", "no.key"]);
    shop.ok(["snapshots", "-r", "main"]);
}

#[test]
fn a_source_is_backed_up_into_the_first_repository_and_comes_back_by_its_name() {
    let shop = Shop::new(SHOP);
    shop.ok(["init"]);
    let summary = shop.ok(["backup", "shop/web", "--json"]).last_line();
    assert_eq!((&summary["source"], &summary["status"]), (&"shop/web".into(), &"complete".into()), "{summary}");
    shop.0.write("web/new.html", b"new");
    shop.ok(["backup", "shop"]).shows("shop/etc").shows("shop/web");
    assert_eq!(shop.sources(["snapshots", "--json"]), ["shop/web", "shop/etc", "shop/web"]);
    assert_eq!(shop.sources(["snapshots", "shop/web", "--json"]), ["shop/web", "shop/web"]);
    assert_eq!(shop.sources(["snapshots", "shop", "--json", "--latest", "1"]), ["shop/etc", "shop/web"]);
    assert_eq!(shop.sources(["snapshots", "sho", "--json"]), [""; 0]);
    assert_eq!(shop.sources(["snapshots", "-r", "offsite", "--json"]), [""; 0]);
    shop.ok(["snapshots"]).shows("shop/web: ");
    // The latest of all is of another source.
    shop.ok(["backup", "shop/etc"]);
    shop.ok(["restore", "shop/web", "--target", "out"]);
    let back = |name: &str| shop.0.path("out").join(shop.0.path(name).strip_prefix("/").expect("absolute"));
    for name in ["web/index.html", "web/new.html", "sessions/a.session"] {
        assert_eq!(fs::read(back(name)).expect(name), fs::read(shop.0.path(name)).expect(name));
    }
    for name in ["web/access.log", "sessions/b", "etc/shop.conf"] {
        assert!(!back(name).exists(), "{name}");
    }
    let part = format!("shop/etc:latest:{}", shop.0.path("etc").display());
    shop.ok(["restore", &part, "--target", "part"]);
    assert_eq!(fs::read(shop.0.path("part/shop.conf")).expect("is back"), b"etc/shop.conf");
    shop.run(["restore", "shop/nothing", "--target", "none"]).ends_with(1).complains("of shop/nothing").helps();
    shop.ok(["ls", "shop/etc"]).shows("shop.conf");
    let id = shop.ok(["snapshots", "shop/etc", "--json"]).json()[0]["id"].as_str().expect("an id").to_owned();
    shop.ok(["ls", &format!("shop/etc:{id}")]);
    shop.run(["ls", &format!("shop/web:{id}")]).ends_with(1);
}

#[test]
fn a_copy_by_name_serves_where_the_first_repository_is_lost_without_the_configuration_too() {
    let shop =
        Shop::new(&SHOP.replace("key = \"cmd:cat offsite.key\"", "copy_from = \"main\"\nkey = \"file:main.key\""));
    shop.ok(["init"]).shows("made repository main").shows("backstay copy -r main --to offsite");
    assert!(!shop.0.path("repos/offsite").exists());
    shop.ok(["backup", "shop/web"]);
    shop.ok(["copy", "-r", "main", "--to", "offsite"]);
    fs::remove_dir_all(shop.0.path("repos/main")).expect("removes");
    shop.run(["restore", "shop/web", "--target", "out"]).ends_with(10).helps();
    shop.ok(["restore", "shop/web", "--target", "by-name", "-r", "offsite"]);
    let args = ["restore", "shop/web", "--target", "out", "-r", "repos/offsite", "-p", "main.key"];
    let mut bare = shop.0.command(args);
    Said::of(bare.env_remove("BACKSTAY_REPOSITORY")).ends_with(0);
    assert!(!fs::read_dir(shop.0.path("out")).expect("lists").count().eq(&0));
}

#[test]
fn retention_follows_a_source_whatever_paths_its_configuration_names() {
    let shop = Shop::new(SHOP);
    shop.ok(["init", "-r", "main"]);
    shop.ok(["backup", "shop"]);
    shop.0.write("backstay.toml", SHOP.replace("[\"etc\"]", "[\"etc\", \"web\"]").as_bytes());
    shop.ok(["backup", "shop"]);
    shop.ok(["forget", "--source", "shop/etc", "--keep-last", "1"]);
    assert_eq!(shop.sources(["snapshots", "--json"]), ["shop/web", "shop/etc", "shop/web"]);
    shop.ok(["forget", "--keep-last", "1"]);
    assert_eq!(shop.sources(["snapshots", "--json"]), ["shop/etc", "shop/web"]);
}

#[test]
fn a_word_is_a_platform_and_a_path_begins_as_one() {
    let shop = Shop::new(SHOP);
    shop.ok(["init", "-r", "main"]);
    shop.0.write("shop/web", b"a file of that name");
    shop.ok(["backup", "./shop", "-r", "main"]);
    assert_eq!(shop.sources(["snapshots", "-r", "main", "--json"]), ["none"]);
    shop.ok(["backup", "shop/web", "-r", "main"]);
    assert_eq!(shop.sources(["snapshots", "--source", "shop/web", "--json"]), ["shop/web"]);
    shop.run(["backup", "shop", "./etc"]).ends_with(2).complains("shop is a platform").helps();
    shop.run(["backup", "shop", "--exclude", "x"]).ends_with(2).complains("--exclude is for paths").helps();
    shop.run(["backup", "shop/wbe"]).ends_with(2).complains("no source").helps();
    shop.ok(["backup", "etc", "-r", "main"]);
}

#[test]
fn what_cannot_be_backed_up_yet_is_said_and_the_rest_is_backed_up() {
    let more = "[platform.shop.source.db]\nkind = \"postgres\"\nconnect = { via = \"compose:db\", database = \"shop\" }\n\
                physical = { wal = \"continuous\" }\n[platform.shop.source.cache]\nkind = \"redis\"\nanything = 1\n";
    let shop = Shop::new(&format!("{SHOP}{more}"));
    shop.ok(["init", "-r", "main"]);
    let said = shop.run(["backup", "shop"]).ends_with(2).helps();
    assert!(said.err.contains("shop/db") && said.err.contains("shop/cache: this version"), "{}", said.err);
    assert_eq!(shop.sources(["snapshots", "shop", "--json"]), ["shop/etc", "shop/web"]);
    // A part that is missing makes it incomplete, as with paths.
    fs::remove_dir_all(shop.0.path("sessions")).expect("removes");
    shop.run(["backup", "shop/web"]).ends_with(3).complains("*.session");
}

#[test]
fn without_a_name_the_repository_is_the_only_one_or_the_platforms_or_a_question() {
    let one = Shop::new("version = 1\n[repository.main]\nurl = \"repos/main\"\nkey = \"env:MAIN\"\n");
    one.run(["init"]).ends_with(1).complains("env:MAIN").helps();
    let mut command = one.0.command(["init"]);
    command.env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_KEY_FILE").env("MAIN", PASSPHRASE);
    Said::of(command.env("BACKSTAY_CONFIG", one.0.path("backstay.toml"))).ends_with(0);
    // An option goes before the configuration.
    one.ok(["snapshots", "-p", "key"]);
    let none = Shop::new("version = 1\n");
    none.run(["snapshots"]).ends_with(2).complains("which repository").helps();
    let two = Shop::new(&format!("{SHOP}[platform.other]\nrepositories = [\"offsite\"]\n"));
    let said = two.run(["snapshots"]).ends_with(2).complains("which repository");
    assert!(said.err.contains("help: name one with --repo: main, offsite"), "{}", said.err);
    two.ok(["init"]);
    assert_eq!(two.sources(["snapshots", "other", "--json"]), [""; 0]);
    two.run(["snapshots", "-r", "nowhere"]).ends_with(10).complains("nowhere");
}

/// A service that refuses everybody, and passes on the head of each request.
fn refusing() -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = listener.local_addr().expect("has an address").port();
    let (tell, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("connects");
            let mut head = String::new();
            for line in BufReader::new(&connection).lines() {
                match line.expect("reads").as_str() {
                    "" => break,
                    line => head.push_str(&format!("{line}\n")),
                }
            }
            tell.send(head).expect("the test goes on");
            let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            connection.write_all(refusal).expect("answers");
        }
    });
    (port, heads)
}

#[test]
fn a_bucket_is_asked_by_the_access_key_of_its_repository() {
    let (port, heads) = refusing();
    let shop = Shop::new(&format!(
        "version = 1\n[repository.bucket]\nurl = \"s3:http://127.0.0.1:{port}/bucket/main\"\nkey = \"file:main.key\"\n\
         credentials = {{ id = \"cmd:echo OURKEY\", secret = \"file:s3.secret\" }}\n"
    ));
    shop.run(["snapshots"]).ends_with(1).complains("s3.secret").helps();
    assert_eq!(heads.try_iter().count(), 0, "nobody is asked without a secret");
    shop.0.write("s3.secret", b"not told to anybody\n");
    shop.run(["snapshots"]).ends_with(21).helps();
    let heads: Vec<String> = heads.try_iter().collect();
    assert!(!heads.is_empty() && heads.iter().all(|head| head.contains("Credential=OURKEY/")), "{heads:?}");
}

#[test]
fn check_names_every_error_with_its_line_and_ends_with_2() {
    let shop = Shop::new(PROBLEMS);
    let said = shop.run(["config", "check"]).ends_with(2);
    assert_eq!(said.err.matches("error: ").count(), 2, "{}", said.err);
    assert!(said.err.contains("backstay.toml:4:7: repository.main.key: a secret must not stand"), "{}", said.err);
    assert!(said.err.contains("backstay.toml:7:1: ") && said.err.contains("did you mean \"paths\"?"), "{}", said.err);
    let checked = shop.run(["config", "check", "--json"]).ends_with(2).json();
    assert_eq!((&checked["ok"], &checked["errors"][0]["line"]), (&false.into(), &4.into()), "{checked}");
    for args in [["config", "show"], ["backup", "shop"]] {
        let said = shop.run(args).ends_with(2).complains("backstay.toml:4:7").helps();
        assert!(!said.err.contains("hunter2") && said.err.contains("and 1 more"), "{}", said.err);
    }
    assert!(!format!("{checked}{}{}", said.out, said.err).contains("hunter2"));
    // What needs no configuration does not mind.
    shop.ok(["init", "-r", "./repo", "-p", "key"]);
    shop.0.write("backstay.toml", format!("{SHOP}[notify]\nx = 1\n[drill.a]\n[drill.b]\n").as_bytes());
    let said = shop.ok(["config", "check"]).shows("good, 2 warnings");
    assert!(said.err.contains("the key \"drill\" is not used by this version"), "{}", said.err);
    fs::remove_file(shop.0.path("backstay.toml")).expect("removes");
    shop.run(["config", "check"]).ends_with(2).complains("cannot read the configuration").helps();
}

#[test]
fn show_says_where_secrets_are_and_schema_knows_every_key_that_is_shown() {
    let shop = Shop::new(&SHOP.replace("[repository.offsite]", "credentials.x = 1\n[repository.offsite]"));
    shop.run(["config", "show"]).ends_with(2);
    let shop = Shop::new(SHOP);
    let said = shop.ok(["config", "show"]).shows("cmd:cat offsite.key").shows("sqlite = \"auto\"");
    assert!(said.out.contains(shop.0.path("repos/main").to_str().expect("text")), "{}", said.out);
    shop.0.write("shown.toml", said.out.as_bytes());
    shop.ok(["config", "check", "--config", "shown.toml"]).shows("good, 0 warnings");
    let shown = shop.ok(["config", "show", "--json"]).json();
    let schema = shop.ok(["config", "schema"]).json();
    let web = &shown["config"]["platform"]["shop"]["source"]["web"];
    let known = &schema["properties"]["platform"]["additionalProperties"]["properties"]["source"]["additionalProperties"]
        ["oneOf"][0]["properties"];
    for key in web.as_object().expect("a table").keys() {
        assert!(known[key].is_object(), "{key} is not in the schema");
    }
    assert_eq!(
        (&schema["required"], &schema["additionalProperties"]),
        (&serde_json::json!(["version"]), &false.into())
    );
    shop.ok(["config", "schema", "--markdown"]).shows("`[platform.NAME.source.NAME]` `kind = \"postgres\"`");
}
