# Completions of wholefs for bash. What could follow is asked of the program itself.
_wholefs() {
    local line=${COMP_LINE:0:COMP_POINT} words=() word prefix value about i
    # bash breaks words at ':' and '=', too: here they are whole again.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ $i == 0 || $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            words+=("")
        fi
        word=${COMP_WORDS[i]:0:${#line}}
        words[${#words[@]} - 1]+=$word
        line=${line#"$word"}
    done
    word=${words[${#words[@]} - 1]}
    prefix=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r value about; do
        case $value in
            :files) compopt -o default ;;
            :directories) compopt -o dirnames ;;
            *) COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done < <(command "$1" complete -- "${words[@]}" 2> /dev/null)
    # More is to come behind these.
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[=/:] ]] || compopt -o nospace
}
complete -F _wholefs wholefs
