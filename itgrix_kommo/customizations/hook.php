<?php
/*
 * Runs one customization. Standard input is one line of JSON about the call, {"file", "marker"}, and then the payload,
 * which becomes $params. What the file prints goes first; then the marker, "A" (an answer, as JSON) or "F" (a failure,
 * in words), the number of bytes and a line break, and these bytes. The same under php-cgi and php, from PHP 5.6 on.
 *
 * The file is included from the global scope, as files with `global $params` expect, so nothing here may leave a
 * variable behind; functions and globals of the file end with the request.
 */

final class ItgrixHook
{
    public static $file = null;
    private static $marker = '';
    private static $told = false;

    public static function begin()
    {
        $isCli = PHP_SAPI === 'cli';
        $input = file_get_contents($isCli ? 'php://stdin' : 'php://input');
        $end = strpos($input, "\n");
        $call = json_decode(substr($input, 0, $end), true);
        self::$marker = $call['marker'];
        register_shutdown_function(array('ItgrixHook', 'finish'));
        if ($call['file'] === null) {
            return self::answer(true);
        }
        $streams = array('STDIN' => array('/dev/null', 'r'), 'STDOUT' => array('php://output', 'w'),
            'STDERR' => array('php://output', 'w'));
        foreach ($streams as $name => $how) {
            if (!defined($name)) {
                define($name, fopen($how[0], $how[1]));
            }
        }
        $params = json_decode(substr($input, $end + 1), true);
        $source = is_readable($call['file']) ? file_get_contents($call['file']) : false;
        if ($source === false) {
            return self::fail(basename($call['file']) . " can't be read: has it been removed?");
        }
        chdir(dirname($call['file']));
        $_SERVER['SCRIPT_FILENAME'] = $_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = $call['file'];
        self::$file = $call['file'];
        return self::isWrapped($source, $call['file']) ? array('params' => $params) : $params;
    }

    /* Files of old versions read $params['params']['phone']: no payload has had a key "params" since 3.0.0. */
    private static function isWrapped($source, $file)
    {
        $wrapped = '/\$params\s*\[\s*([\'"])params\1\s*\]/';
        return preg_match($wrapped, $source) && preg_match($wrapped, php_strip_whitespace($file));
    }

    public static function answer($value)
    {
        if ($value === 1) {
            return self::fail("it returned nothing: end the file with return array('state' => 'success', 'data' => ...);");
        }
        $answer = json_encode($value);
        if ($answer === false) {
            return self::fail("the answer can't be written as JSON: " . json_last_error_msg());
        }
        self::tell('A', $answer);
    }

    public static function fail($words)
    {
        self::tell('F', $words);
    }

    public static function caught($error)
    {
        error_log((string) $error);
        self::fail(get_class($error) . ': ' . $error->getMessage() . self::place($error->getFile(), $error->getLine()));
    }

    /* Whatever ended the file otherwise: exit, or an error that can't be caught. */
    public static function finish()
    {
        if (self::$told) {
            return;
        }
        ini_set('memory_limit', '-1');
        $error = error_get_last();
        $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
        if ($error !== null && ($error['type'] & $fatal)) {
            self::fail($error['message'] . self::place($error['file'], $error['line']));
        } else {
            self::fail('it ended by exit before it returned an answer');
        }
    }

    private static function place($file, $line)
    {
        return ' (' . basename($file) . ', line ' . $line . ')';
    }

    private static function tell($kind, $text)
    {
        self::$told = true;
        while (ob_get_level() > 0 && @ob_end_flush()) {
            continue;
        }
        echo self::$marker, $kind, strlen($text), "\n", $text;
    }
}

$params = ItgrixHook::begin();
if (ItgrixHook::$file !== null) {
    try {
        ItgrixHook::answer(include ItgrixHook::$file);
    } catch (Exception $error) {
        ItgrixHook::caught($error);
    } catch (Throwable $error) {
        ItgrixHook::caught($error);
    }
}
