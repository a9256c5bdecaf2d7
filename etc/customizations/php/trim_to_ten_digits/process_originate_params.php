<?php
// Click-to-call: dials the last 10 digits with an 8 in front, as a Russian PBX wants them.

$digits = preg_replace('/\D/', '', $params['extension']);
if (strlen($digits) >= 10) {
    $params['extension'] = '8' . substr($digits, -10);
}

return array('state' => 'success', 'data' => $params);
