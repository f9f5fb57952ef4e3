# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_backstay_global_optspecs
    string join \n r/repo= as-of= config= repository-file= p/key-file= key-command= key-passphrase-file= json q/quiet v/verbose no-progress cache-dir= h/help V/version
end

function __fish_backstay_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_backstay_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_backstay_using_subcommand
    set -l cmd (__fish_backstay_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c backstay -n "__fish_backstay_needs_command" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_needs_command" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_needs_command" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_needs_command" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_needs_command" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_needs_command" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_needs_command" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_needs_command" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_needs_command" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_needs_command" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_needs_command" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_needs_command" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_needs_command" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_needs_command" -s V -l version -d 'Print version'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "init" -d 'Make a repository'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "backup" -d 'Back up files, directories, standard input or what a program prints'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "snapshots" -d 'List snapshots'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "list" -d 'List snapshots'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "ls" -d 'List what is in a snapshot'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "find" -d 'Find files in snapshots'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "diff" -d 'Show what differs between two snapshots'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "restore" -d 'Restore a snapshot, or a part of it'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "dump" -d 'Write a file to standard output, or a directory as tar'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "instant" -d 'Start a PostgreSQL server on a backup, without restoring it'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "mount" -d 'Show snapshots as a file system'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "forget" -d 'Remove snapshots by a retention policy'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "prune" -d 'Give back the space of what no snapshot needs'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "verify" -d 'Check that everything is there and undamaged'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "check" -d 'Check that everything is there and undamaged'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "copy" -d 'Copy a repository to another place'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "tag" -d 'Change the tags and holds of snapshots'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "wal" -d 'The log of a PostgreSQL cluster: push, get, status'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "pitr" -d 'The moments that a PostgreSQL cluster can be brought back to'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "config" -d 'The configuration: check it, show it, describe its keys'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "key" -d 'Keys: list, add, remove, enrol, print the recovery kit'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "stats" -d 'What the repository holds'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "info" -d 'What the repository holds'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "doctor" -d 'Look at everything a backup depends on, and say what to do'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "demo" -d 'See backup, loss and recovery on this machine, in a temporary directory'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "man" -d 'Print the manual page'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "version" -d 'Print the version'
complete -c backstay -n "__fish_backstay_needs_command" -f -a "help" -d 'Help on a command, or on exit-codes'
complete -c backstay -n "__fish_backstay_using_subcommand init" -l generate-key -d 'Make up a key and write it to this new file, instead of using a passphrase' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -l pack-size -d 'Size of the objects that data is collected in, 1 KiB to 64 MiB [default: 16M in a directory, 60M in a bucket]' -r
complete -c backstay -n "__fish_backstay_using_subcommand init" -l lock-days -d 'Lock what a snapshot needs for this many days from when it is written, 1 to 3650, in a bucket that has object lock; prune extends the locks of what is still needed' -r
complete -c backstay -n "__fish_backstay_using_subcommand init" -l lock-mode -d 'Who may take locks off before their end: nobody (compliance), or whom the service allows to (governance)' -r -f -a "compliance\t''
governance\t''"
complete -c backstay -n "__fish_backstay_using_subcommand init" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand init" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand init" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand init" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand init" -l allow-network-filesystem -d 'Accept a network file system, which may keep its promises less well than a disk'
complete -c backstay -n "__fish_backstay_using_subcommand init" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand init" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand init" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand init" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand init" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l type -d 'Of PostgreSQL sources: their files and log, or dumps of their databases [default: all that the configuration says of them]' -r -f -a "physical\t'The files of a cluster, and its log'
logical\t'Dumps of databases, by pg_dump'"
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l tag -d 'Tag the snapshot; may be given several times, or with commas' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l reason -d 'Why this backup is made, in words: kept with the snapshot' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l host -d 'Host name for the snapshot instead of this machine\'s' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l time -d 'Time of the snapshot instead of now: RFC 3339, or as in 2025-12-09 14:30' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s e -l exclude -d 'Leave out what matches, as in .gitignore; an absolute path means that path; !PATTERN takes in again' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l exclude-file -d 'File with one pattern per line' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l exclude-larger-than -d 'Leave out larger files' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l files-from -d 'Read paths from this file, one per line; - is standard input; lines that begin with # do not count' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l files-from0 -d 'Read paths from this file, each ended by a NUL byte' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l stdin-filename -d 'Name of the file that standard input, or the command\'s output, becomes' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l sqlite -d 'SQLite databases: through SQLite, or as any other file [default: auto]' -r -f -a "auto\t''
off\t''"
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l compression -d 'off, fast, auto, max, or zstd:LEVEL with a level from -7 to 19 [default: auto; of sources, what the configuration says]' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l read-concurrency -d 'How many files to read at the same time [default: one per processor]' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l exclude-caches -d 'Leave out what is in directories marked by a CACHEDIR.TAG'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s x -l one-file-system -d 'Stay on the file systems of the given paths'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l stdin -d 'Back up standard input'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l stdin-from-command -d 'Back up what the command after -- prints; when it fails there is no snapshot'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l force -d 'Read every file again, whether it looks changed or not'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l no-verify -d 'Do not read back from the repository what this run stores before the snapshot is made'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s n -l dry-run -d 'Read and count, and store nothing'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand backup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l latest -d 'Only the newest N of each host and paths' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s g -l group-by -d 'Show together what has these in common: host, paths, tags' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l removed -d 'List the snapshots that were removed instead: which, when, by whom and why'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand snapshots" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand list" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l latest -d 'Only the newest N of each host and paths' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -s g -l group-by -d 'Show together what has these in common: host, paths, tags' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand list" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand list" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand list" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand list" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand list" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand list" -l removed -d 'List the snapshots that were removed instead: which, when, by whom and why'
complete -c backstay -n "__fish_backstay_using_subcommand list" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand list" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand list" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand list" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand list" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s l -l long -d 'With mode, owner, size, time and target'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s R -l recursive -d 'Everything under the paths'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand ls" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand find" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -s s -l snapshot -d 'Only in this snapshot' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -s t -l type -d 'Only things of this type' -r -f -a "file\t''
dir\t''
symlink\t''
fifo\t''
chardev\t''
dev\t''"
complete -c backstay -n "__fish_backstay_using_subcommand find" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand find" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand find" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand find" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand find" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand find" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand find" -s i -l ignore-case -d 'Capitals do not matter'
complete -c backstay -n "__fish_backstay_using_subcommand find" -s l -l long -d 'With mode, owner, size, time and target'
complete -c backstay -n "__fish_backstay_using_subcommand find" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand find" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand find" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand find" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand find" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand diff" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l metadata -d 'Also show what differs in nothing but mode, owner, times or attributes'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand diff" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s t -l target -d 'Directory to restore into: new or empty, but for --delta and --in-place' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s i -l include -d 'Only this: an absolute path, or a pattern as in .gitignore' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s e -l exclude -d 'Not this; stronger than --include' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l confirm -d 'The target once more: needed where something that is there will be changed' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l owner -d 'Who shall own the files: the recorded numbers, the recorded names, or whoever runs this [default: numeric for root, skip for others]' -r -f -a "numeric\t''
names\t''
skip\t''"
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l at -d 'The moment: a time, latest, immediate (the end of a backup), lsn:0/3000060, xid:1234, name:POINT [default: latest]' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l base -d 'The backup to begin with; otherwise the newest before the moment' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l timeline -d 'Which line of history after a failover: newest, backup (its own), or a number' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l tablespace -d 'Where a tablespace goes; otherwise into TARGET-tablespaces/NAME' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l target-action -d 'What the server does when it is there' -r -f -a "promote\t'Opens for writing, on a timeline of its own'
pause\t'Waits, readable, until somebody calls pg_wal_replay_resume()'
shutdown\t'Stops'"
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l table -d 'Only this table, as pg_dump names it: schema.table. Needs --to, but for dumps' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l database -d 'The database that the tables are in; otherwise the one that the configuration names' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l to -d 'Where the tables go: postgresql://… (a database that exists), or a file for pg_restore; of dumps a directory' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l type -d 'What is restored of a source that has both [default: physical where there is such a backup]' -r -f -a "physical\t'A cluster, to a moment'
logical\t'Dumps of databases'"
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l into -d 'Name of the new database [default: DATABASE_restored_TIME]. One that exists is put aside only with --confirm NAME' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l dump -d 'The dump of this name in the configuration' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l jobs -d 'How many tables at the same time [default: one per processor]' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l delta -d 'Into a directory that is there: rewrite only what differs'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l in-place -d 'To where it came from (the target is / unless named): rewrite only what differs'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l delete -d 'Delete what the snapshot does not have, inside of what it covers'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s n -l dry-run -d 'Say what would be done, and do nothing'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l verify -d 'Read everything back from the disk and compare'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l no-special -d 'No devices, setuid bits and privileged attributes'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l exclusive -d 'Without what is exactly at the moment'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l archive -d 'Let the server archive its log as before: for one that takes the place of the old one'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l roles -d 'First make the roles that the server lacks; those it has are not touched'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand dump" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l tar -d 'Write a single file as tar too, with its metadata'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand dump" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l at -d 'The moment: a time, latest, immediate (the end of a backup), lsn:0/3000060, xid:1234, name:POINT [default: latest]' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l base -d 'The backup to begin with; otherwise the newest before the moment' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l timeline -d 'Which line of history after a failover: newest, backup (its own), or a number' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l dir -d 'A directory to make for it: changed pages, the socket. Otherwise one in the cache' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l port -d 'Listen at 127.0.0.1 too, at this port, with passwords' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l exclusive -d 'Without what is exactly at the moment'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l read-only -d 'Stop where the moment is, and stay readable only'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand instant" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l cache-size -d 'About how much content to keep in memory' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand mount" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l allow-other -d 'Let other users look too, as far as modes and owners of files let them'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand mount" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s l -l keep-last -d 'Keep the newest N' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s H -l keep-hourly -d 'Keep the newest of each of the newest N hours that have one' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s d -l keep-daily -d 'The same of days' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s w -l keep-weekly -d 'The same of weeks' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s m -l keep-monthly -d 'The same of months' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s y -l keep-yearly -d 'The same of years' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within -d 'Keep all that are less than this older than the newest' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within-hourly -d 'Keep the newest of each hour less than this older than the newest' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within-daily -d 'The same of days' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within-weekly -d 'The same of weeks' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within-monthly -d 'The same of months' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-within-yearly -d 'The same of years' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-tag -d 'Keep those with this tag; with a comma: with all of these; empty: without any' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s g -l group-by -d 'Apply the rules to each of these alone: host, paths, tags; empty for all together' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l max-unused -d 'How much unused data may stay inside objects that are needed: a percentage, a size, or unlimited' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l grace -d 'How long what is condemned waits at least: 24h, 90m, 7d [default: not at all on a local disk]' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l keep-first -d 'Of each hour, day, week, month and year keep the first instead of the newest'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l allow-empty -d 'A group may lose its newest complete and its newest verified snapshot'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s n -l dry-run -d 'Say what would be removed, and remove nothing'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l prune -d 'Prune afterwards'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand forget" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l max-unused -d 'How much unused data may stay inside objects that are needed: a percentage, a size, or unlimited' -r
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l grace -d 'How long what is condemned waits at least: 24h, 90m, 7d [default: not at all on a local disk]' -r
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s n -l dry-run -d 'Say what would be freed, and free nothing'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand prune" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l read-data -l read-data-subset -d 'Open all data, or a share of it: 5%, or part 3/16' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l repair-from -d 'First write again what another copy of the repository still has' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand verify" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l digests -d 'Compare every object\'s bytes with its name'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l no-key -d 'As --digests, without opening the repository: needs no key'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l repair -d 'First write again what can be made from the repository itself'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l accept-loss -d 'Give up for lost the part of the history that is damaged or gone and that no copy has: what is left is the repository then, and can be pruned again'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand verify" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l read-data -l read-data-subset -d 'Open all data, or a share of it: 5%, or part 3/16' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l repair-from -d 'First write again what another copy of the repository still has' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand check" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand check" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand check" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand check" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand check" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand check" -l digests -d 'Compare every object\'s bytes with its name'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l no-key -d 'As --digests, without opening the repository: needs no key'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l repair -d 'First write again what can be made from the repository itself'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l accept-loss -d 'Give up for lost the part of the history that is damaged or gone and that no copy has: what is left is the repository then, and can be pruned again'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand check" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand check" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand check" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand check" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l to -d 'Where the copy is, or is to be' -r
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s n -l dry-run -d 'Say what would be copied, and copy nothing'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l verify -d 'Read the whole copy back and compare digests'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand copy" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l add -d 'Add this tag; commas separate several' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l remove -d 'Remove this tag' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l set -d 'These tags and no others; empty for none' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l hold -d 'Keep it whatever a policy says, for this reason' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand tag" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l release -d 'It may expire again'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand tag" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -f -a "push" -d 'Archive a file of the log: archive_command = \'backstay wal push --source PLATFORM/SOURCE %p\''
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -f -a "get" -d 'Fetch a file of the log: restore_command = \'backstay wal get --source PLATFORM/SOURCE %f %p\''
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -f -a "receive" -d 'Keep the archive within seconds of the server: by a replication slot, until it is told to stop'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and not __fish_seen_subcommand_from push get receive status" -f -a "status" -d 'What the archive holds: stretches, gaps, timelines'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l source -d 'Whose log it is: PLATFORM/SOURCE' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l source -d 'Whose log it is: PLATFORM/SOURCE' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l new-slot -d 'Where the slot or log is lost: make the slot anew, and go on behind the gap'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from receive" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l server -d 'Ask the server too: how far the archive is behind it, and how much it keeps for the slot'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand wal; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and not __fish_seen_subcommand_from windows" -f -a "windows" -d 'The times that can be restored to: `restore PLATFORM/SOURCE --at TIME`'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand pitr; and __fish_seen_subcommand_from windows" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -f -a "check" -d 'Say everything that is wrong with it; exit code 2 when anything is'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -f -a "show" -d 'Show what holds: all files together, defaults filled in, secrets as references'
complete -c backstay -n "__fish_backstay_using_subcommand config; and not __fish_seen_subcommand_from check show schema" -f -a "schema" -d 'Print the JSON Schema of a configuration file, for editors'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l markdown -d 'Print the documentation of the keys instead'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand config; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "list" -d 'List passphrases and who was enrolled'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "add" -d 'Add a passphrase, or enrol somebody with --role'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "remove" -d 'Remove a passphrase'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "passwd" -d 'Put a new passphrase in the place of an old one'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "revoke" -d 'Revoke the key of somebody who was enrolled: what they committed stays, what they commit from now on does not count'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "protect" -d 'Give a key file a passphrase of its own, or another one'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "kit" -d 'Print the recovery kit: who has it can restore everything'
complete -c backstay -n "__fish_backstay_using_subcommand key; and not __fish_seen_subcommand_from list add remove passwd revoke protect kit test" -f -a "test" -d 'Say what the key at hand can do, having tried it'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l role -d 'Enrol somebody for this, with keys of their own' -r -f -a "writer\t''
keeper\t''
reader\t''
root\t''"
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l label -d 'What to call it' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l out -d 'New file for the keys, mode 0600' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l domain -d 'Domain that a writer shares chunks with: 32 hex digits, or same-as LABEL [default: one of its own]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l new-key-file -d 'File that holds the new passphrase' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l new-key-command -d 'Program that prints the new passphrase; no shell is used' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s n -l dry-run -d 'Say what would be left, and remove nothing'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l new-key-file -d 'File that holds the new passphrase' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l new-key-command -d 'Program that prints the new passphrase; no shell is used' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from passwd" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s n -l dry-run -d 'Say whose key it is, and revoke nothing'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l new-key-file -d 'File that holds the new passphrase' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l new-key-command -d 'Program that prints the new passphrase; no shell is used' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l off -d 'Take its passphrase away'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from protect" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l out -d 'New file for it, mode 0600; - for standard output' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from kit" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand key; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand stats" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand stats" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand stats" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand stats" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand stats" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand info" -l host -d 'Only snapshots of this host' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l tag -d 'Only snapshots with this tag; with a comma: with all of these' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l path -d 'Only snapshots of this path' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l source -d 'Only snapshots of this source, or of this platform' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand info" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand info" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand info" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand info" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand info" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand info" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand info" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand info" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand info" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand info" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l confirm -d 'The source once more: then they are changed' -r
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l fix -d 'Say which settings of the server would have to be changed'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand demo" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l keep -d 'Keep the directory, to look around in it'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand demo" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand completions" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand completions" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand completions" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand completions" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand completions" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand completions" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand man" -l dir -d 'Write all pages into this directory, instead of printing the main one' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand man" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand man" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand man" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand man" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand man" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand man" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand man" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand man" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand version" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand version" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand version" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand version" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand version" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand version" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand version" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand version" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand version" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand version" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand version" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand version" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand version" -s h -l help -d 'Print help'
complete -c backstay -n "__fish_backstay_using_subcommand help" -s r -l repo -d 'Repository: a path, s3://HOST/BUCKET/PREFIX, s3:http://HOST:PORT/BUCKET/PREFIX, or a name from the configuration [env: BACKSTAY_REPOSITORY]' -r
complete -c backstay -n "__fish_backstay_using_subcommand help" -l as-of -d 'Read a bucket that keeps versions as it was at this time: 2025-12-09T14:30:00Z, "2025-12-09 14:30", -2h' -r
complete -c backstay -n "__fish_backstay_using_subcommand help" -l config -d 'Configuration, instead of /etc/backstay/backstay.toml and conf.d, or the user\'s own [env: BACKSTAY_CONFIG]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand help" -l repository-file -d 'File that holds the repository\'s address [env: BACKSTAY_REPOSITORY_FILE]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand help" -s p -l key-file -l password-file -d 'File that holds the passphrase, key bundle or identity [env: BACKSTAY_KEY_FILE, BACKSTAY_KEY_FD]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand help" -l key-command -l password-command -d 'Program that prints it; no shell is used [env: BACKSTAY_KEY_COMMAND]' -r
complete -c backstay -n "__fish_backstay_using_subcommand help" -l key-passphrase-file -d 'File that holds the passphrase of a key file that has one [env: BACKSTAY_KEY_PASSPHRASE, BACKSTAY_KEY_PASSPHRASE_FILE, BACKSTAY_KEY_PASSPHRASE_COMMAND]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand help" -l cache-dir -d 'Directory for what can be made again [env: BACKSTAY_CACHE_DIR]' -r -F
complete -c backstay -n "__fish_backstay_using_subcommand help" -l json -d 'Write JSON: one document, or one line per event and a summary last'
complete -c backstay -n "__fish_backstay_using_subcommand help" -s q -l quiet -d 'Only say what went wrong'
complete -c backstay -n "__fish_backstay_using_subcommand help" -s v -l verbose -d 'Say more; twice for still more'
complete -c backstay -n "__fish_backstay_using_subcommand help" -l no-progress -d 'Do not show progress'
complete -c backstay -n "__fish_backstay_using_subcommand help" -s h -l help -d 'Print help'
