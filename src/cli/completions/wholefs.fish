# Completions of wholefs for fish. What could follow is asked of the program itself.
function __wholefs_complete
    set -l current (commandline -ct)
    for line in (command wholefs complete -- (commandline -opc) "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case :directories
                __fish_complete_directories "$current" ''
            case '*'
                echo $line
        end
    end
end
complete -c wholefs -f -a '(__wholefs_complete)'
