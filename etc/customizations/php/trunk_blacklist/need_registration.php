<?php
// Calls through these trunks stay out of the CRM. With in_array instead of !in_array it is a white list.

$blacklist = array('PJSIP/intercom', 'PJSIP/alarm');
$trunk = $params['call_full']['channel']['trunk']['number'];

return array(
    'state' => 'success',
    'data' => array('result' => !in_array($trunk, $blacklist)),
);
