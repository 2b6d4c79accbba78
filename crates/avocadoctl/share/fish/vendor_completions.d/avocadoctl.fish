# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_avocadoctl_global_optspecs
    string join \n c/config= v/verbose o/output= socket= h/help V/version
end

function __fish_avocadoctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_avocadoctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_avocadoctl_using_subcommand
    set -l cmd (__fish_avocadoctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -s V -l version -d 'Print version'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "status" -d 'Show the active runtime and its extensions'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "runtime" -d 'Add, list, inspect, activate, pin, verify and remove runtimes'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "ext" -d 'List, merge and unmerge extensions'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "merge" -d 'Merge the extensions of the active runtime (alias for `ext merge`)'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "unmerge" -d 'Unmerge all extensions (alias for `ext unmerge`)'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "refresh" -d 'Bring what is merged in line with the active runtime (alias for `ext refresh`)'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "enable" -d 'Enable extensions for when no runtime is active'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "disable" -d 'Disable extensions for when no runtime is active'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "hitl" -d 'Hardware-in-the-loop (HITL) testing commands'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "os" -d 'Commit an OS update that runs on trial'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "root-authority" -d 'Show whom this device trusts'
complete -c avocadoctl -n "__fish_avocadoctl_needs_command" -f -a "serve" -d 'Run the service'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand status" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand status" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand status" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand status" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "list" -d 'List the runtimes: the active one, then the others, the newest first'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "add" -d 'Stage a runtime from a repository or from a manifest'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "inspect" -d 'Show a runtime in full'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "activate" -d 'Make a runtime the active one and merge its extensions'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "rollback" -d 'Make the runtime active again that was active before'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "pin" -d 'Keep a runtime from being removed'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "unpin" -d 'Let a pinned runtime be removed again'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "remove" -d 'Remove a runtime that is not active'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "prune" -d 'Remove what is not needed any more'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "gc" -d 'Remove what is not needed any more, with as many runtimes kept as the configuration says'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "metadata" -d 'Keep texts of a runtime, for other programs'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and not __fish_seen_subcommand_from list add inspect activate rollback pin unpin remove prune gc metadata verify" -f -a "verify" -d 'Read every image again and say what is corrupt, missing or not needed'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from list" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from list" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from list" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l url -d 'A TUF repository: the address below which metadata/ and targets/ are' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l manifest -d 'A manifest whose images are in the pool already' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l artifacts-url -d 'Download images from here instead of from the repository' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l check -d 'Only say whether there is a runtime that is not on this device yet'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l plan -d 'Only say what would be downloaded, what is there already, and whether a reboot is needed'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -l download-only -d 'Only download the images, so that adding the runtime later is quick'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from inspect" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from inspect" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from inspect" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from inspect" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from activate" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from activate" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from activate" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from activate" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from activate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from rollback" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from rollback" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from rollback" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from rollback" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from pin" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from pin" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from pin" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from pin" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from pin" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from unpin" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from unpin" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from unpin" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from unpin" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from unpin" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from remove" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from remove" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from remove" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -l keep -d 'Keep so many runtimes, and remove the oldest ones [default: keep all]' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -s n -l dry-run -d 'Only say what would be removed'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from gc" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from gc" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from gc" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from gc" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -f -a "set" -d 'Keep a text under a key'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -f -a "get" -d 'Show what is kept under a key'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -f -a "list" -d 'Show all that is kept'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from metadata" -f -a "delete" -d 'Keep nothing under a key any more'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from verify" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from verify" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from verify" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from verify" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand runtime; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "list" -d 'List the extensions that are on this device'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "status" -d 'Show which extensions are merged, and from what'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "merge" -d 'Merge the extensions of the active runtime'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "unmerge" -d 'Unmerge all extensions'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "refresh" -d 'Bring what is merged in line with the active runtime'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "enable" -d 'Merge extensions of the active runtime from the next merge on, whatever its manifest says'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and not __fish_seen_subcommand_from list status merge unmerge refresh enable disable" -f -a "disable" -d 'Leave extensions of the active runtime out from the next merge on'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from list" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from list" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from list" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from status" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from status" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from status" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from merge" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from merge" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from merge" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from merge" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from merge" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -l unmount -d 'Unmount their images as well; otherwise merging them again is quicker'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from unmerge" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from refresh" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from refresh" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from refresh" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from refresh" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from refresh" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from enable" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from enable" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from enable" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from enable" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from disable" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from disable" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from disable" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from disable" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand ext; and __fish_seen_subcommand_from disable" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand merge" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand merge" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand merge" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand merge" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand merge" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -l unmount -d 'Unmount their images as well; otherwise merging them again is quicker'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand unmerge" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand refresh" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand refresh" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand refresh" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand refresh" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand refresh" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -l os-release -d 'The VERSION_ID of the operating system [default: that of the running one]' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand enable" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -l os-release -d 'The VERSION_ID of the operating system [default: that of the running one]' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -l all -d 'Every extension that is enabled'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand disable" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -f -a "mount" -d 'Mount NFS extensions from a remote server'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -f -a "unmount" -d 'Unmount NFS extensions'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and not __fish_seen_subcommand_from mount unmount watch" -f -a "watch" -d 'Go back to the images when the server is gone: what avocado-hitl.service runs'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s s -l server-ip -d 'The address of the server' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s p -l server-port -d 'The port of the server' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s e -l extension -d 'An extension of the server (repeatable)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from mount" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -s e -l extension -d 'An extension that is mounted (repeatable)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from unmount" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from watch" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from watch" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from watch" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from watch" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand hitl; and __fish_seen_subcommand_from watch" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and not __fish_seen_subcommand_from commit" -f -a "commit" -d 'Commit an OS update that runs on trial if the system is well, or go back'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and __fish_seen_subcommand_from commit" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and __fish_seen_subcommand_from commit" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and __fish_seen_subcommand_from commit" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and __fish_seen_subcommand_from commit" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand os; and __fish_seen_subcommand_from commit" -s h -l help -d 'Print help'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and not __fish_seen_subcommand_from forget" -f -a "forget" -d 'Forget what was verified of a repository that was set up anew'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -l url -d 'The repository' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -l what -d 'What to forget' -r -f -a "roles\t'Which roles there were and their versions, but for the timestamp: always safe'
versions\t'All versions: once, anything that has not expired may be offered'
time\t'The newest known time as well: the clock alone says what has expired'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand root-authority; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -l address -d 'Listen here [default: the socket that systemd passes, else that of the configuration]' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -l exit-on-idle -d 'Exit after so many seconds without a client; 0 for never. Applies only when the sockets come from systemd, which starts the service again for the next client' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -s c -l config -d 'Configuration file [default: /etc/avocado/avocadoctl.conf]' -r -F
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -s o -l output -d 'Print results as a `table` for people, or as one `json` document, errors included' -r -f -a "table\t'For people'
json\t'One JSON document, errors included'"
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -l socket -d 'Use the service at this address (unix:/path/to/socket)' -r
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -s v -l verbose -d 'Say more about what is being done; twice, also how (see AVOCADO_LOG)'
complete -c avocadoctl -n "__fish_avocadoctl_using_subcommand serve" -s h -l help -d 'Print help'
