<?php
// Click-to-call: calls to Kazakhstan leave through a context of their own, where the dialplan takes another trunk.

if (preg_match('/^\+?7[67]\d{9}$/', $params['extension'])) {
    $params['context'] = 'from-internal-kz';
}

return array('state' => 'success', 'data' => $params);
