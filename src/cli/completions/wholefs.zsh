#compdef wholefs
# Completions of wholefs for zsh. What could follow is asked of the program itself.
_wholefs() {
    local line value
    local -a whole begun
    for line in "${(@f)$(_call_program wholefs command wholefs complete -- "${(@q)words[1,CURRENT]}" 2> /dev/null)}"; do
        case $line in
            '') continue ;;
            :files) _files; return ;;
            :directories) _files -/; return ;;
        esac
        value=${line%%$'\t'*}
        line=${value//:/\\:}:${line#*$'\t'}
        # More is to come behind these.
        if [[ $value == *[=/:] ]]; then begun+=($line); else whole+=($line); fi
    done
    _describe wholefs whole -- begun -S ''
}
# Loaded by the completion system it is what it loads; otherwise it is made known to it.
if [[ ${funcstack[1]-} == _wholefs ]]; then _wholefs "$@"; else compdef _wholefs wholefs; fi
